package helper

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/rights"
)

// starter is the one thread that helpers are started from. It has no bounding set and no_new_privs, for ever, so that they
// are born without; and it must outlive them: the kernel kills them when it ends.
type starter struct {
	jobs chan func()
	quit chan struct{}
	done chan struct{}
}

func newStarter() (*starter, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("start helpers as other users: %w", unix.EPERM)
	}
	s := &starter{jobs: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error)
	go s.loop(ready)
	if err := <-ready; err != nil {
		<-s.done
		return nil, err
	}
	return s, nil
}

// loop never unlocks its thread: with the goroutine the thread ends, and nothing else ever runs on it.
func (s *starter) loop(ready chan<- error) {
	defer close(s.done)
	runtime.LockOSThread()
	err := renounce()
	ready <- err
	for err == nil {
		select {
		case job := <-s.jobs:
			job()
		case <-s.quit:
			return
		}
	}
}

// renounce takes from this thread's children what would give them rights. It keeps its own, to become the user.
func renounce() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl NO_NEW_PRIVS: %w", err)
	}
	if err := rights.DropInherited(); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// start makes a helper of files, its descriptors from 0 on. The child begins as this very program, whatever has become of
// its file.
func (s *starter) start(uid, gid uint32, files []*os.File) (proc *os.Process, err error) {
	finished := make(chan struct{})
	job := func() {
		defer close(finished)
		proc, err = os.StartProcess("/proc/self/exe", []string{"picosnitch", Verb}, &os.ProcAttr{
			Dir: "/",
			// One processor: a helper reads, and its threads count among its user's.
			Env:   []string{"GOMAXPROCS=1", "GOTRACEBACK=none", "GOMEMLIMIT=48MiB"},
			Files: files,
			Sys: &syscall.SysProcAttr{
				Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: gid},
			},
		})
	}
	select {
	case s.jobs <- job:
		<-finished
	case <-s.quit:
		return nil, ErrClosed
	}
	if errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w (uid %d may not execute the picosnitch binary: chmod 755 it)", err, uid)
	}
	return proc, err
}

func (s *starter) close() {
	close(s.quit)
	<-s.done
}
