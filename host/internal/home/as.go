package home

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// As runs fn on a thread that has a user's rights on files, and that ends with it. When ctx ends first (a file system that
// does not answer), fn is left to itself: it must not write to what its caller reads afterwards.
func As(ctx context.Context, owner Owner, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the changed rights end with the thread
		err := become(owner)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// become gives this thread alone the owner's rights on files. The raw calls matter: package syscall's would change every
// thread. Leaving fsuid 0 takes the file capabilities from the effective set, see capabilities(7).
func become(owner Owner) error {
	if os.Geteuid() != 0 {
		if uint32(os.Geteuid()) != owner.UID {
			return fmt.Errorf("act for uid %d as uid %d: %w", owner.UID, os.Geteuid(), unix.EPERM)
		}
		return nil
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("drop supplementary groups: %w", errno)
	}
	for _, id := range []struct {
		call uintptr
		name string
		want uint32
	}{{unix.SYS_SETFSGID, "fsgid", owner.GID}, {unix.SYS_SETFSUID, "fsuid", owner.UID}} {
		_, _, _ = unix.RawSyscall(id.call, uintptr(id.want), 0, 0) // returns the old one, never an error
		const ask = ^uintptr(0)                                    // an invalid id changes nothing
		if have, _, _ := unix.RawSyscall(id.call, ask, 0, 0); uint32(have) != id.want {
			return fmt.Errorf("set %s to %d: %w", id.name, id.want, unix.EPERM)
		}
	}
	return nil
}
