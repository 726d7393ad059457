package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/pidfd"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
)

// pipeGrace is how long the pipes of an ended process are still read: what it wrote is in them already, but a descendant
// may hold them open for ever.
const pipeGrace = 250 * time.Millisecond

// Process is a started plugin.
type Process struct {
	Stdout *os.File // the reader closes them
	Stderr *os.File

	pid      int
	group    *group.Group // nil: none
	stdin    *os.File     // held open: its end tells the plugin that the host died
	proc     *os.Process
	pidfd    *os.File
	started  time.Time
	enforced []string
	missing  []string
	done     chan struct{}
	exit     Exit // set before done is closed

	mu     sync.Mutex
	reaped bool // the pid may belong to another process now
}

// Exit is how a process ended.
type Exit struct {
	Code    int // -1 when a signal ended it
	Signal  syscall.Signal
	Started time.Time
	Uptime  time.Duration
	Peak    uint64 // bytes of memory
	// OutOfMemory says that the kernel ended a process of the plugin's group because the group was at its bound.
	OutOfMemory bool
}

// String is the exit in words.
func (e Exit) String() string {
	text := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != 0 {
		text = fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
	}
	if e.OutOfMemory {
		text += ", out of the memory granted to it,"
	}
	return text + " after " + e.Uptime.Round(time.Millisecond).String()
}

// Start starts a plugin and returns once its program runs, or with the launcher's reason why it does not. All that it
// needs from o is used when it returns; the File stays the caller's.
func Start(ctx context.Context, thread *Thread, o Options) (*Process, error) {
	w, err := o.wire()
	if err != nil {
		return nil, err
	}
	defer w.closeTheirs()
	p := &Process{Stdout: w.stdout, Stderr: w.stderr, stdin: w.stdin, done: make(chan struct{}), started: time.Now()}
	if o.Sandbox != nil {
		p.group = o.Sandbox.Group
	}
	thread.do(func() { p.proc, err = w.spawn(o.Sandbox) })
	if err != nil {
		w.closeOurs()
		return nil, fmt.Errorf("start the launcher: %w", err)
	}
	p.pid = p.proc.Pid
	if p.pidfd, err = pidfd.Open(p.pid); err != nil {
		_ = p.proc.Kill()
		_, _ = p.proc.Wait()
		w.closeOurs()
		return nil, err
	}
	go p.watch()
	w.closeTheirs()
	if p.group != nil {
		err = p.group.Enter(p.pid) // the launcher waits for its spec
	}
	if err == nil {
		err = p.await(ctx, w)
	} else {
		w.abandon()
	}
	if err != nil {
		p.Kill()
		<-p.done
		_ = p.Stdout.Close()
		_ = p.Stderr.Close()
		return nil, err
	}
	return p, nil
}

// await hands the launcher its spec and waits until it has become the plugin.
func (p *Process) await(ctx context.Context, w *wires) error {
	defer func() { _ = w.report.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = w.report.SetReadDeadline(deadline) // a pipe always takes one
	}
	stop := context.AfterFunc(ctx, func() { _ = w.report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	report, err := w.converse()
	p.enforced, p.missing = report.Enforced, report.Missing
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	return nil
}

// watch waits for the end and reaps.
func (p *Process) watch() {
	defer close(p.done)
	_ = pidfd.Wait(p.pidfd) // else Wait blocks instead
	p.mu.Lock()
	// Before the pid is free for others: what shares its group goes with it.
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	state, err := p.proc.Wait()
	p.reaped = true
	p.mu.Unlock()
	p.exit = Exit{Code: -1, Started: p.started, Uptime: time.Since(p.started)}
	if err == nil {
		p.exit.Code = state.ExitCode()
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			p.exit.Signal = status.Signal()
		}
		if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
			p.exit.Peak = uint64(usage.Maxrss) << 10
		}
	}
	if p.group != nil {
		seen := p.group.Usage()
		p.exit.OutOfMemory = seen.OutOfMemory
		p.exit.Peak = max(p.exit.Peak, seen.Peak)
	}
	_ = p.pidfd.Close()
	_ = p.stdin.Close()
	deadline := time.Now().Add(pipeGrace)
	_ = p.Stdout.SetReadDeadline(deadline) // fails only on a closed one
	_ = p.Stderr.SetReadDeadline(deadline)
}

// PID is the process id as the host sees it.
func (p *Process) PID() int { return p.pid }

// Sandbox tells in words what was enforced, and what could not be.
func (p *Process) Sandbox() (enforced, missing []string) { return p.enforced, p.missing }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the process ended; valid once Done is closed.
func (p *Process) Exit() Exit { return p.exit }

// Kill ends the process and every process of its process group; in a sandbox it is the first of its pid namespace, so that all
// others in there end too. It does not wait.
func (p *Process) Kill() { p.signal(unix.SIGKILL, true) }

// Quit asks a Go program to write all stacks to its standard error and end.
func (p *Process) Quit() {
	p.signal(unix.SIGCONT, false) // a stopped one could not
	p.signal(unix.SIGQUIT, false)
}

func (p *Process) signal(signal syscall.Signal, group bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	_ = unix.Kill(p.pid, signal) // gone already is as good
	if group {
		_ = unix.Kill(-p.pid, signal)
	}
}
