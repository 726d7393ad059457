package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Limits bound a group. 0 is no bound.
type Limits struct {
	MemoryMB  int
	Processes int // and threads
}

// Group is the control group of one incarnation of a plugin.
type Group struct {
	unified, memory, pids string   // directories; "" without one
	dir                   *os.File // of unified; nil without one
	enforced, missing     []string
	boundMemory           bool
	boundProcesses        bool
}

// Usage is what a group has seen.
type Usage struct {
	Peak        uint64 // bytes; 0: not known
	OutOfMemory bool   // the kernel ended a process of it for want of memory
}

// Make makes the group of a plugin, empty. It has what can be had of l: the rest is said by Words, and by Bounds. The
// caller closes it.
func (p *Parent) Make(name string, l Limits) *Group {
	g := &Group{missing: slices.Clone(p.missing)}
	g.unified, g.memory, g.pids = g.child(p.unified, name), g.child(p.memory, name), g.child(p.pids, name)
	if g.unified != "" {
		var err error
		if g.dir, err = os.Open(g.unified); err != nil {
			g.missing = append(g.missing, "control groups: "+err.Error())
		}
	}
	if l.MemoryMB > 0 {
		g.bound(p, l)
	}
	if l.Processes > 0 {
		g.boundPIDs(p, l)
	}
	return g
}

// child makes a directory, after ending what may have been left in it.
func (g *Group) child(parent, name string) string {
	if parent == "" {
		return ""
	}
	dir := filepath.Join(parent, name)
	if exists(dir) {
		killAll(dir)
		if err := remove(dir); err != nil {
			g.missing = append(g.missing, "control groups: "+err.Error())
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		g.missing = append(g.missing, "control groups: "+err.Error())
		return ""
	}
	return dir
}

func (g *Group) bound(p *Parent, l Limits) {
	bytes := strconv.FormatInt(int64(l.MemoryMB)<<20, 10)
	switch {
	case g.unified != "" && slices.Contains(p.bounded, "memory"):
		g.boundMemory = g.set(g.unified, "memory.max", bytes)
		_ = write(g.unified, "memory.swap.max", "0")  // a kernel without swap accounting lacks it
		_ = write(g.unified, "memory.oom.group", "1") // Linux 4.19
		g.did(g.boundMemory, "memory: %d MiB (memory.max)", l.MemoryMB)
	case g.memory != "":
		g.boundMemory = g.set(g.memory, "memory.limit_in_bytes", bytes)
		_ = write(g.memory, "memory.memsw.limit_in_bytes", bytes)
		g.did(g.boundMemory, "memory: %d MiB (memory.limit_in_bytes)", l.MemoryMB)
	}
}

func (g *Group) boundPIDs(p *Parent, l Limits) {
	dir := g.pids
	if slices.Contains(p.bounded, "pids") {
		dir = g.unified
	}
	if dir != "" {
		g.boundProcesses = g.set(dir, "pids.max", strconv.Itoa(l.Processes))
		g.did(g.boundProcesses, "threads and processes: %d (pids.max)", l.Processes)
	}
}

func (g *Group) set(dir, file, text string) bool {
	err := write(dir, file, text)
	if err != nil {
		g.missing = append(g.missing, "control groups: "+err.Error())
	}
	return err == nil
}

func (g *Group) did(done bool, format string, args ...any) {
	if done {
		g.enforced = append(g.enforced, fmt.Sprintf(format, args...))
	}
}

// Words says what the group enforces, and what stood in its way.
func (g *Group) Words() (enforced, missing []string) { return g.enforced, g.missing }

// Bounds says which limits the group enforces itself.
func (g *Group) Bounds() (memory, processes bool) { return g.boundMemory, g.boundProcesses }

// Directory is the open directory of the unified hierarchy, to start the process in, or nil. It stays the group's.
func (g *Group) Directory() *os.File { return g.dir }

// Path is the same by name, or "".
func (g *Group) Path() string { return g.unified }

// Enter moves a process, all of its threads, into the group, as far as it was not started there.
func (g *Group) Enter(pid int) error {
	for _, dir := range []string{g.memory, g.pids} {
		if dir == "" {
			continue
		}
		if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("enter control group: %w", err)
		}
	}
	return nil
}

// Processes are the ids of those in the group, where one hierarchy knows them.
func (g *Group) Processes() []int {
	for _, dir := range []string{g.unified, g.memory, g.pids} {
		if dir != "" {
			return processes(dir)
		}
	}
	return nil
}

// Usage is what the group has counted so far.
func (g *Group) Usage() Usage {
	if g.memory != "" {
		return Usage{
			Peak:        number(g.memory, "memory.max_usage_in_bytes", ""),
			OutOfMemory: number(g.memory, "memory.oom_control", "oom_kill ") > 0,
		}
	}
	if g.unified == "" {
		return Usage{}
	}
	return Usage{
		Peak:        number(g.unified, "memory.peak", ""), // Linux 5.19
		OutOfMemory: number(g.unified, "memory.events", "oom_kill ") > 0,
	}
}

// number reads a file of one number, or the number of the line that begins with key; 0 if there is none.
func number(dir, file, key string) uint64 {
	text, _ := os.ReadFile(filepath.Join(dir, file))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			n, _ := strconv.ParseUint(rest, 10, 64)
			return n
		}
	}
	return 0
}

// Kill ends every process of the group, also one that left its session and its parents.
func (g *Group) Kill() {
	for _, dir := range []string{g.unified, g.memory, g.pids} {
		if dir != "" {
			killAll(dir)
		}
	}
}

// Close ends what is left and removes the group.
func (g *Group) Close() error {
	g.Kill()
	var errs []error
	if g.dir != nil {
		errs = append(errs, g.dir.Close())
	}
	for _, dir := range []string{g.unified, g.memory, g.pids} {
		if dir != "" {
			errs = append(errs, remove(dir))
		}
	}
	return errors.Join(errs...)
}
