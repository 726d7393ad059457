package marks

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// place is a file system as seen in a mount namespace.
type place struct {
	namespace uint32
	device    uint64
}

// look is a request to look into the mount namespace of a process.
type look struct {
	pid       uint32
	namespace uint32
}

const (
	maxLooks  = 256
	maxPlaces = 4096
	// maxMembers bounds the processes remembered of each namespace.
	maxMembers = 8
	// lookAgain is when a namespace may be looked at again for a file system that it has shown: both numbers may stand for
	// something else by then.
	lookAgain = 10 * time.Second
	// maxForeign bounds what one namespace can make us do.
	maxForeign = 1024
)

// Saw tells that a process in another mount namespace than the host's executes files of a file system. It does not block:
// the namespace is looked at soon, if it was not a short time ago.
func (m *Marks) Saw(pid, namespace uint32, device uint64) {
	at, now := place{namespace, device}, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.rememberLocked(pid, namespace)
	if now.Sub(m.seen[at]) < lookAgain {
		return
	}
	if len(m.seen) >= maxPlaces {
		clear(m.seen)
	}
	select {
	case m.looks <- look{pid: pid, namespace: namespace}:
		m.seen[at] = now
	default:
		m.count(func(c *Counters) { c.Skipped++ })
	}
}

// rememberLocked keeps who might still be there when its namespace is looked at: the first process seen, which may well be
// the one that made it, and the latest.
func (m *Marks) rememberLocked(pid, namespace uint32) {
	pids := m.members[namespace]
	if slices.Contains(pids, pid) {
		return
	}
	if len(m.members) >= maxPlaces {
		clear(m.members)
	}
	if len(pids) >= maxMembers {
		pids = slices.Delete(pids, 1, 2)
	}
	m.members[namespace] = append(pids, pid)
}

// lookAround looks into namespaces until Close.
func (m *Marks) lookAround(sink Sink) {
	for {
		select {
		case l := <-m.looks:
			m.visit(l, sink)
		case <-m.ctx.Done():
			return
		}
	}
}

// visit marks what a namespace has, through whoever of it is still there. If nobody is, that is no reason to complain: the
// next process of it is looked at again.
func (m *Marks) visit(l look, sink Sink) {
	m.mu.Lock()
	pids := append([]uint32{l.pid}, m.members[l.namespace]...)
	m.mu.Unlock()
	for _, pid := range pids {
		mounts, err := m.foreignMounts(look{pid, l.namespace})
		if err != nil {
			continue
		}
		m.count(func(c *Counters) { c.Namespaces++ })
		sink.Foreign(l.namespace, mounts)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.members, l.namespace)
	for at := range m.seen {
		if at.namespace == l.namespace {
			delete(m.seen, at)
		}
	}
}

// errOtherNamespace tells that a pid stands for another process now.
var errOtherNamespace = errors.New("the process is in another mount namespace")

func (m *Marks) foreignMounts(l look) ([]Mount, error) {
	proc := fmt.Sprintf("%s/%d", m.options.ProcRoot, l.pid)
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root of process %d: %w", l.pid, err)
	}
	defer unix.Close(root)
	table, err := openTable(proc + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer table.close()
	mounts, err := table.read()
	if err != nil {
		return nil, err
	}
	ours := m.ownedByHost(l.pid)
	if namespaceOf(m.options.ProcRoot, l.pid, "mnt") != l.namespace {
		return nil, errOtherNamespace
	}
	m.markForeign(root, mounts, ours)
	return mounts, nil
}

// ownedByHost tells whether a process's mount namespace was made with the host's privileges. One of a user's own may be
// put together from file systems that the user serves.
func (m *Marks) ownedByHost(pid uint32) bool {
	ns, err := os.Open(fmt.Sprintf("%s/%d/ns/mnt", m.options.ProcRoot, pid))
	if err != nil {
		return false
	}
	defer ns.Close()
	const getUserNS = 0xb701 // NS_GET_USERNS
	owner, err := unix.IoctlRetInt(int(ns.Fd()), getUserNS)
	if err != nil {
		return false
	}
	defer unix.Close(owner)
	var theirs, ours unix.Stat_t
	if unix.Fstat(owner, &theirs) != nil || unix.Stat(m.options.ProcRoot+"/self/ns/user", &ours) != nil {
		return false
	}
	return theirs.Dev == ours.Dev && theirs.Ino == ours.Ino
}

// markForeign marks each file system once, through a mount of it that can be reached without asking anybody who may not
// answer.
func (m *Marks) markForeign(root int, mounts []Mount, ours bool) {
	unsafe := []Kind{Served}
	if !ours {
		unsafe = append(unsafe, Stacked)
	}
	marked := map[uint64]bool{}
	for i := range mounts[:min(len(mounts), maxForeign)] {
		at := &mounts[i]
		if marked[at.Device] || at.Kind == Pseudo || !Reaches(mounts, at.Point, unsafe...) {
			continue
		}
		err := m.markAt(root, at, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS|unix.RESOLVE_NO_SYMLINKS)
		switch {
		case err == nil:
			marked[at.Device] = true
		case errors.Is(err, errElsewhere):
		default:
			m.count(func(c *Counters) { c.Unmarked++ })
			m.complain(fmt.Sprintf("executables on %s of another mount namespace cannot be followed: %v", at.Type, err))
		}
	}
}
