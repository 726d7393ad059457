package identity

import (
	"context"
	"hash/maphash"
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
	seed    maphash.Seed // of paths in views

	mu        sync.Mutex
	nodes     map[capture.Key]*node
	users     map[uint32]*user
	text      int // bytes that nodes keep
	files     map[fileID]*executable
	inodes    map[inodeOf]map[*executable]bool // those of files that were opened and may be shared
	views     views
	systems   systems
	opened    fileQueue // executables with an open descriptor, oldest first
	idle      fileQueue // executables that no instance kept has, the one unused longest first
	handed    handedFiles
	late      []Resolved // since Late was called
	forged    []Forged   // since Forgeries was called
	counters  Counters
	forgotten []capture.Key // evicted since Forgotten was called
	swept     int64         // boot time of the last sweep
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
	text     int    // bytes counted in Table.text

	examined chan struct{} // closed when the process has been looked at; nil before a flow asked for it
	claimed  *wire.Text    // its command line as it shows it now, if that is another
	looked   int64         // boot ns of the last examination
	accused  bool          // it was told as forged
	suspect  string        // what its link to its program showed then instead of the program
}

// New makes a Table and starts its workers.
func New(o Options) *Table {
	o.fill()
	if o.HostMountNS == 0 {
		o.HostMountNS = MountNamespace(o.ProcRoot)
	}
	t := &Table{
		options: o, seed: maphash.MakeSeed(), nodes: map[capture.Key]*node{}, users: map[uint32]*user{},
		files: map[fileID]*executable{}, inodes: map[inodeOf]map[*executable]bool{}, views: newViews(),
		systems: newSystems(), handed: newHandedFiles(),
	}
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
	for t.opened.first != nil {
		e := t.opened.first
		t.opened.remove(e)
		e.closeFile()
	}
	t.handed.closeAll()
	return err
}

// Observe takes the facts of a process instance. Facts that are known already change nothing.
func (t *Table) Observe(p *capture.Process) {
	u := t.unitOf(p)
	if t.options.Follower != nil && !p.Forked && !p.Kernel && !t.isHost(p.MountNS) {
		t.options.Follower.Saw(p.Key.Tgid, p.MountNS, p.File.Device)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.nodes[p.Key]; known != nil {
		if p.Exited != 0 && known.exited == 0 {
			t.end(known, p.Exited)
		}
		return
	}
	n := &node{facts: p, unit: u}
	n.parent = t.parentOf(p)
	t.inherit(n)
	if !t.admit(n) {
		if p.Exited != 0 { // its end may not be told again
			t.forgotten = append(t.forgotten, p.Key)
		}
		return
	}
	t.nodes[p.Key] = n
	if n.parent != nil {
		n.parent.children++
	}
	if p.Forked && n.parent != nil && n.parent.facts.CgroupID == p.CgroupID {
		n.unit = n.parent.unit
	}
	if !p.Kernel && p.File.Inode != 0 {
		t.ask(n.facts)
		n.exe = t.executableOf(n)
		t.revive(n.exe)
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
	facts.Path, facts.Arguments, facts.Script = n.parent.facts.Path, n.parent.facts.Arguments, n.parent.facts.Script
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
	if n.exe == nil {
		return
	}
	n.exe.users--
	if n.exe.users == 0 {
		t.unused(n.exe)
	}
}

// Recorded tells that every window up to this boot time has been recorded: who ended before, and has no children left,
// is let go.
func (t *Table) Recorded(boot int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		t.convict(n, boot)
		if n.exited != 0 && n.exited < boot {
			t.drop(n)
		}
	}
	t.sweep(boot)
}

// drop removes an ended node that nothing needs, and its ancestors for which that was the last child.
func (t *Table) drop(n *node) {
	for n != nil && n.exited != 0 && n.children == 0 && t.nodes[n.facts.Key] == n {
		delete(t.nodes, n.facts.Key)
		t.forgotten = append(t.forgotten, n.facts.Key)
		t.dismiss(n)
		if n.exe != nil {
			n.exe.nodes--
			t.retire(n.exe)
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
