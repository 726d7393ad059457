// Package pidfd answers one question: has this child ended? It is for children that may hang for ever: the runtime's poller
// waits for them, where os.Process.Wait would take a thread each.
package pidfd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a descriptor of a child that has not been waited for. The caller closes it.
func Open(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Wait returns when the child is dead; it is then still to be reaped, so that its pid is nobody else's. An error is that of
// a descriptor that was closed, or whose read deadline has passed.
func Wait(child *os.File) error {
	conn, err := child.SyscallConn()
	if err == nil {
		err = conn.Read(ended)
	}
	if err != nil {
		return fmt.Errorf("wait for a process: %w", err)
	}
	return nil
}

// ended looks whether a child has ended. What cannot be looked at will not be said to end later.
func ended(fd uintptr) bool {
	const options = unix.WEXITED | unix.WNOHANG | unix.WNOWAIT
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PIDFD, int(fd), &info, options, nil)
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PIDFD, int(fd), &info, options, nil)
	}
	return err == nil && info.Signo != 0 || err != nil && !errors.Is(err, unix.EAGAIN)
}
