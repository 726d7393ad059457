package identity

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/unit"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Table knows process instances and executables.
type Table struct {
	options Options
	workers *workers

	mu        sync.Mutex
	nodes     map[capture.Key]*node
	files     map[fileID]*executable
	views     map[view]bool
	opened    fileQueue  // executables with an open descriptor, oldest first
	late      []Resolved // since Late was called
	counters  Counters
	forgotten []capture.Key // evicted since Forgotten was called
	swept     int64         // boot time of the last sweep
}

// Counters tell what a Table holds and what it could not do. All but the first four only grow.
type Counters struct {
	Processes   uint64
	Executables uint64
	OpenFiles   uint64
	Hashing     uint64
	Hashed      uint64
	NotHashed   uint64 // with a reason
	Refused     uint64 // instances not kept because the table was full; their flows say what is known of them
	FilesClosed uint64 // descriptors closed early because there were too many
}

// node is one process instance. It is kept while it runs, while a child of it is kept, and until the window in which it
// ended has been recorded.
type node struct {
	facts    *capture.Process
	parent   *node
	children int
	exe      *executable
	unit     *wire.Unit
	exited   int64 // boot ns, 0 while it runs
	message  *wire.Process
	version  uint64 // of exe, that message was made from
}

// New makes a Table and starts its workers.
func New(o Options) *Table {
	o.fill()
	if o.HostMountNS == 0 {
		o.HostMountNS = MountNamespace(o.ProcRoot)
	}
	t := &Table{options: o, nodes: map[capture.Key]*node{}, files: map[fileID]*executable{}, views: map[view]bool{}}
	t.workers = startWorkers(t)
	return t
}

// MountNamespace gives the inode of this process's mount namespace: /proc names it "mnt:[4026531841]". 0 if it cannot be
// read.
func MountNamespace(procRoot string) uint32 {
	target, err := os.Readlink(procRoot + "/self/ns/mnt")
	if err != nil {
		return 0
	}
	_, number, _ := strings.Cut(strings.TrimSuffix(target, "]"), "[")
	inode, _ := strconv.ParseUint(number, 10, 32)
	return uint32(inode)
}

// Close ends the workers and closes all files. Workers that do not end before ctx does are left behind.
func (t *Table) Close(ctx context.Context) error {
	err := t.workers.stop(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.files {
		e.closeFile()
	}
	return err
}

// Observe takes the facts of a process instance. Facts that are known already change nothing.
func (t *Table) Observe(p *capture.Process) {
	u := t.unitOf(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.nodes[p.Key]; known != nil {
		if p.Exited != 0 && known.exited == 0 {
			t.end(known, p.Exited)
		}
		return
	}
	if len(t.nodes) >= t.options.MaxProcesses {
		t.counters.Refused++
		return
	}
	n := &node{facts: p, unit: u}
	t.nodes[p.Key] = n
	n.parent = t.parentOf(p)
	if n.parent != nil {
		n.parent.children++
	}
	t.inherit(n)
	if p.Forked && n.parent != nil && n.parent.facts.CgroupID == p.CgroupID {
		n.unit = n.parent.unit
	}
	if !p.Kernel && p.File.Inode != 0 {
		t.ask(n.facts)
		n.exe = t.executable(n)
		n.exe.users++
		n.exe.nodes++
	}
	if p.Exited != 0 {
		t.end(n, p.Exited)
	}
}

// unitOf asks before the table is locked. A fork is where its parent is: nobody is asked.
func (t *Table) unitOf(p *capture.Process) *wire.Unit {
	if t.options.Unit == nil || p.Kernel || p.Forked {
		return nil
	}
	cgroup := ""
	if t.options.CgroupPath != nil {
		cgroup = t.options.CgroupPath(p.CgroupID)
	}
	return t.options.Unit(cgroup, unit.Facts{
		Pid: p.Key.Tgid, Start: p.Key.Start, UID: p.UID, Exe: string(p.Path.Value), MountNS: p.MountNS,
	})
}

// parentOf is the process that started p: the one that forked it, also when it has ended since and p was given another
// parent.
func (t *Table) parentOf(p *capture.Process) *node {
	if !p.Forked && p.Key.ExecID > 0 {
		before := p.Key
		before.ExecID--
		if image := t.nodes[before]; image != nil {
			return image.parent
		}
	}
	return t.nodes[p.Parent]
}

// inherit completes a fork of a process whose own entry the kernel side had lost.
func (t *Table) inherit(n *node) {
	if !n.facts.Forked || n.parent == nil || n.facts.Path.Length > 0 || n.facts.File != n.parent.facts.File {
		return
	}
	facts := *n.facts
	facts.Path, facts.Arguments = n.parent.facts.Path, n.parent.facts.Arguments
	n.facts = &facts
}

// End takes the end of a process instance.
func (t *Table) End(e *capture.Exit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[e.Key]
	switch {
	case n == nil:
		t.forgotten = append(t.forgotten, e.Key)
	case n.exited == 0:
		t.end(n, e.Time)
	}
}

func (t *Table) end(n *node, boot int64) {
	n.exited = boot
	if n.exe != nil {
		n.exe.users--
		n.exe.unused = boot
	}
}

// Recorded tells that every window up to this boot time has been recorded: who ended before, and has no children left,
// is let go.
func (t *Table) Recorded(boot int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		if n.exited != 0 && n.exited < boot {
			t.drop(n)
		}
	}
	t.closeUnused(boot)
	t.sweep(boot)
}

// drop removes an ended node that nothing needs, and its ancestors for which that was the last child.
func (t *Table) drop(n *node) {
	for n != nil && n.exited != 0 && n.children == 0 && t.nodes[n.facts.Key] == n {
		delete(t.nodes, n.facts.Key)
		t.forgotten = append(t.forgotten, n.facts.Key)
		if n.exe != nil {
			n.exe.nodes--
		}
		if n.parent != nil {
			n.parent.children--
		}
		n = n.parent
	}
}

// sweepEvery is how often processes whose end was missed are looked for.
const sweepEvery = int64(10 * 60 * 1e9)

// sweep ends processes that /proc no longer has: their exit was lost.
func (t *Table) sweep(boot int64) {
	if boot-t.swept < sweepEvery {
		return
	}
	t.swept = boot
	for key, n := range t.nodes {
		if n.exited != 0 {
			continue
		}
		if _, err := os.Lstat(t.options.ProcRoot + "/" + strconv.FormatUint(uint64(key.Tgid), 10)); os.IsNotExist(err) {
			t.end(n, boot)
		}
	}
}

// Forgotten gives the instances let go since it was called last: nothing asks for them any more.
func (t *Table) Forgotten() []capture.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := t.forgotten
	t.forgotten = nil
	return keys
}

// Counters gives a snapshot.
func (t *Table) Counters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counters
	c.Processes, c.Executables = uint64(len(t.nodes)), uint64(len(t.files))
	c.OpenFiles = uint64(t.opened.length)
	return c
}
