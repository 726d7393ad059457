package helper

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/pidfd"
)

// process is a started helper.
type process struct {
	proc  *os.Process
	pidfd *os.File      // becomes readable at its end
	done  chan struct{} // closed when it has ended and is reaped
	state *os.ProcessState

	mu     sync.Mutex
	reaped bool // the pid may belong to another process now
}

func newProcess(proc *os.Process) (*process, error) {
	fd, err := pidfd.Open(proc.Pid)
	if err != nil {
		_ = proc.Kill()
		_, _ = proc.Wait() // it has not read its order: nothing holds it
		return nil, err
	}
	return &process{proc: proc, pidfd: fd, done: make(chan struct{})}, nil
}

// watch waits until the helper has ended, calls ended, and returns; or returns when forget was called.
func (p *process) watch(ended func()) {
	defer func() { _ = p.pidfd.Close() }()
	if pidfd.Wait(p.pidfd) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killLocked() // before the pid is free for others: what it started goes with it
	p.state, _ = p.proc.Wait()
	p.reaped = true
	ended()
	close(p.done)
}

// await tells whether the helper ends within d.
func (p *process) await(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// forget makes watch return though the helper lives.
func (p *process) forget() { _ = p.pidfd.SetReadDeadline(time.Unix(1, 0)) }

// kill ends the helper and what it started. It does not wait.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.killLocked()
	}
}

func (p *process) killLocked() {
	_ = unix.Kill(p.proc.Pid, unix.SIGKILL) // gone already is as good
	_ = unix.Kill(-p.proc.Pid, unix.SIGKILL)
}
