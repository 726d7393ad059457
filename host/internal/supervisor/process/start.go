package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
)

// ErrLaunch is wrapped by what the launcher says when it could not become the plugin.
var ErrLaunch = errors.New("launch")

// maxReport bounds what is read from the launcher, in bytes.
const maxReport = 64 << 10

// Options say what to start.
type Options struct {
	Name     string // argv[0]
	File     *executable.File
	Env      []string // the whole environment
	MemoryMB int      // for a resource limit; 0: none
	Listener *os.File // given to the plugin as descriptor 3; stays the caller's; nil: none
	Sandbox  *Sandbox // nil: a plain child
}

// Sandbox is where a plugin lives. The host must be root.
type Sandbox struct {
	UID, GID  uint32
	Network   bool         // the host's; else one of its own, empty
	Ports     []uint16     // with Network: only to peers at these, whose names are in a hosts file among Mounts
	Processes int          // for a resource limit; 0: none
	Group     *group.Group // where it is from the beginning; nil: the host's own
	Root      string       // directory whose place the new root takes; nothing of it is seen
	Mounts    []*Mount     // stay the caller's
}

// wires are the pipes between host, launcher and plugin.
type wires struct {
	stdin, stdout, stderr, report, spec *os.File   // our ends
	theirs                              []*os.File // descriptors 0 to 6
	mounts                              []*os.File
	text                                []byte // the encoded spec
}

// wire makes the pipes.
func (o Options) wire() (*wires, error) {
	w := &wires{}
	spec := launch.Spec{Args: []string{o.Name}, Env: o.Env, Script: o.File.Script, MemoryMB: o.MemoryMB,
		Listener: o.Listener != nil}
	if s := o.Sandbox; s != nil {
		spec.Sandbox = &launch.Sandbox{
			UID: s.UID, GID: s.GID, Root: s.Root, Network: s.Network, Ports: s.Ports, Processes: s.Processes,
		}
		for _, m := range s.Mounts {
			spec.Sandbox.Mounts = append(spec.Sandbox.Mounts, launch.Mount{Path: m.Path, ReadOnly: m.readOnly})
			w.mounts = append(w.mounts, m.tree)
		}
	}
	var err error
	if w.text, err = json.Marshal(spec); err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	var theirs [launch.MountFD]*os.File
	for _, pipe := range []struct {
		ours   **os.File
		theirs int
		reads  bool // the host reads
	}{{&w.stdin, 0, false}, {&w.stdout, 1, true}, {&w.stderr, 2, true},
		{&w.spec, launch.SpecFD, false}, {&w.report, launch.ReportFD, true}} {
		r, wr, err := os.Pipe()
		if err != nil {
			w.closeOurs()
			w.closeTheirs()
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		*pipe.ours, theirs[pipe.theirs] = wr, r
		if pipe.reads {
			*pipe.ours, theirs[pipe.theirs] = r, wr
		}
		w.theirs = append(w.theirs, theirs[pipe.theirs])
	}
	theirs[launch.FileFD], theirs[launch.ListenerFD] = o.File.File, o.Listener
	w.theirs = theirs[:]
	return w, nil
}

// spawn runs on the thread. The child begins as this very program, whatever has become of its file.
func (w *wires) spawn(sandbox *Sandbox) (*os.Process, error) {
	attr := syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if sandbox != nil {
		attr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
		if !sandbox.Network {
			attr.Cloneflags |= syscall.CLONE_NEWNET
		}
		if g := sandbox.Group; g != nil && g.Directory() != nil {
			attr.UseCgroupFD, attr.CgroupFD = true, int(g.Directory().Fd())
		}
	}
	return os.StartProcess("/proc/self/exe", []string{"picosnitch", launch.Verb}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOTRACEBACK=none"},
		Files: append(append([]*os.File(nil), w.theirs...), w.mounts...),
		Sys:   &attr,
	})
}

// converse writes the spec and reads the reports, until the launcher's end is closed by its becoming the plugin.
func (w *wires) converse() (launch.Report, error) {
	// The text fits into the pipe, unless it is absurd.
	_, err := w.spec.Write(w.text)
	_ = w.spec.Close()
	if err != nil {
		return launch.Report{}, fmt.Errorf("%w: hand over the spec: %w", ErrLaunch, err)
	}
	var last launch.Report
	reports := json.NewDecoder(io.LimitReader(w.report, maxReport))
	for seen := false; ; seen = true {
		var next launch.Report
		err := reports.Decode(&next)
		switch {
		case errors.Is(err, io.EOF) && seen:
			return last, nil
		case err != nil:
			return last, fmt.Errorf("%w: the launcher ended without a word: %w", ErrLaunch, err)
		case next.Refused:
			return last, fmt.Errorf("%w: %w: %s", ErrLaunch, executable.ErrRefused, next.Error)
		case next.Error != "":
			return last, fmt.Errorf("%w: %s", ErrLaunch, next.Error)
		}
		last = next
	}
}

// closeTheirs closes the child's ends. The plugin's file and listener are the caller's.
func (w *wires) closeTheirs() {
	for i, f := range w.theirs {
		if f != nil && i != launch.FileFD && i != launch.ListenerFD {
			_ = f.Close()
		}
	}
}

// abandon closes what only a conversation needs.
func (w *wires) abandon() {
	_ = w.spec.Close()
	_ = w.report.Close()
}

func (w *wires) closeOurs() {
	for _, f := range []*os.File{w.stdin, w.stdout, w.stderr, w.report, w.spec} {
		if f != nil {
			_ = f.Close()
		}
	}
}
