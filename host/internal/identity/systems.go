package identity

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/marks"
)

// systems is what is known of file systems, by the kernel's device numbers. The caller of its methods holds the Table's
// mutex.
type systems struct {
	host    map[uint64]system // nil before Mounts: then nothing is known, and every file system taken for a local one
	table   []marks.Mount     // the host's
	foreign map[uint64]marks.Mount
	memory  uint64 // of memfds, which are mounted nowhere
}

// system is a file system that the host has mounted.
type system struct {
	marks.Mount
	mounts map[uint64]bool // their numbers
}

// maxMountInfo bounds what is read of a process's mount table.
const maxMountInfo = 1 << 20

// maxForeign bounds the file systems known that only other mount namespaces have.
const maxForeign = 4096

func newSystems() systems {
	return systems{foreign: map[uint64]marks.Mount{}, memory: memoryDevice()}
}

// memoryDevice is the device number of the file system that the kernel keeps memfds in.
func memoryDevice() uint64 {
	fd, err := unix.MemfdCreate("picosnitch", unix.MFD_CLOEXEC)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0
	}
	return st.Dev
}

func (s *systems) find(device uint64) (marks.Mount, bool) {
	if known, ok := s.host[device]; ok {
		return known.Mount, true
	}
	known, ok := s.foreign[device]
	return known, ok
}

// set takes a new mount table of the host and returns the devices whose file system has gone since the last one, also if
// another one got the number.
func (s *systems) set(table []marks.Mount) []uint64 {
	now := map[uint64]system{}
	for _, m := range table {
		at, known := now[m.Device]
		if !known {
			at = system{Mount: m, mounts: map[uint64]bool{}}
			now[m.Device] = at
		}
		at.mounts[m.ID] = true
	}
	var gone []uint64
	for device, before := range s.host {
		if !overlap(before.mounts, now[device].mounts) {
			gone = append(gone, device)
		}
	}
	for device := range now {
		delete(s.foreign, device)
	}
	s.host, s.table = now, table
	return gone
}

func overlap(a, b map[uint64]bool) bool {
	for id := range a {
		if b[id] {
			return true
		}
	}
	return false
}

// trust says how long a hash counts for other processes.
type trust int

const (
	kept     trust = iota // until the file changes or its file system is unmounted
	whileRun              // while a process runs the file, which keeps its file system from going
	never                 // each execution may have been given other bytes
)

func (s *systems) trust(device uint64) trust {
	if s.host == nil {
		return kept
	}
	if at, ok := s.host[device]; ok {
		if at.Kind == marks.Served {
			return never
		}
		return kept
	}
	if at, ok := s.foreign[device]; ok && at.Kind == marks.Local {
		return whileRun
	}
	return never
}

// Mounts takes the host's mount table, at start and whenever it changes. Hashes of files on what is no longer there are
// forgotten.
func (t *Table) Mounts(host []marks.Mount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, device := range t.systems.set(host) {
		t.forgetIf(func(e *executable) bool { return e.id.file.Device == device })
	}
}

// Foreign takes the mount table of another mount namespace.
func (t *Table) Foreign(_ uint32, mounts []marks.Mount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range mounts {
		if _, host := t.systems.host[m.Device]; host {
			continue
		}
		if len(t.systems.foreign) >= maxForeign {
			clear(t.systems.foreign)
		}
		t.systems.foreign[m.Device] = m
	}
}

// learn looks into the mount table of a process for a file system that nobody has seen yet.
func (t *Table) learn(pid uint32, device uint64) {
	t.mu.Lock()
	_, known := t.systems.find(device)
	unneeded := known || t.systems.host == nil || device == t.systems.memory
	t.mu.Unlock()
	if unneeded {
		return
	}
	raw, err := readSome(fmt.Sprintf("%s/%d/mountinfo", t.options.ProcRoot, pid), maxMountInfo)
	if err != nil {
		return // it has ended
	}
	t.Foreign(0, marks.ParseTable(raw))
}

// reach tells whether the host can look at a path of its own without asking a file system that may not answer. The caller
// does not hold the mutex.
func (t *Table) reach(path string) bool {
	t.mu.Lock()
	table := t.systems.table
	t.mu.Unlock()
	return marks.Reaches(table, path, marks.Served)
}

// fileIDOf says which executions share a hash with this one, and whether its file was written to too shortly before. The
// caller holds the mutex.
func (t *Table) fileIDOf(n *node) (id fileID, racy bool) {
	p := n.facts
	id, racy = fileID{file: p.File}, t.isRacy(p)
	if racy || t.systems.trust(p.File.Device) == never {
		id.only = p.Key
	}
	return id, racy
}

// inodeOf is a file as stat names it, and whether it is for executables that each belong to one process alone.
type inodeOf struct {
	device, inode uint64
	alone         bool
}

func (e *executable) inode() inodeOf {
	return inodeOf{e.stat.Device, e.stat.Inode, e.id.only != (capture.Key{})}
}

var _ marks.Sink = (*Table)(nil)

func keyOfStat(st *unix.Stat_t) capture.FileKey {
	return capture.FileKey{Device: st.Dev, Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(st.Size)}
}
