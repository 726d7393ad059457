package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/home"
)

// asOwner runs fn on a thread that has a user's rights on files, and that ends with it. When ctx ends first (a file system
// that does not answer), fn is left to itself: it must not write to what its caller reads afterwards.
func asOwner(ctx context.Context, owner home.Owner, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the changed rights end with the thread
		err := takeRights(owner)
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

// asAllowed is asOwner for root; anybody else does it as themselves.
func asAllowed(ctx context.Context, owner home.Owner, fn func() error) error {
	if uid := os.Geteuid(); uid != 0 {
		owner.UID = uint32(uid)
	}
	return asOwner(ctx, owner, fn)
}

// takeRights gives this thread alone the owner's rights. Leaving fsuid 0 takes the file capabilities away with it, see
// capabilities(7); the calls of package syscall would change every thread.
func takeRights(owner home.Owner) error {
	if os.Geteuid() != 0 {
		if uint32(os.Geteuid()) != owner.UID {
			return fmt.Errorf("act for uid %d as uid %d: %w", owner.UID, os.Geteuid(), unix.EPERM)
		}
		return nil
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("drop supplementary groups: %w", errno)
	}
	for _, id := range []struct{ call, want uintptr }{
		{unix.SYS_SETFSGID, uintptr(owner.GID)}, {unix.SYS_SETFSUID, uintptr(owner.UID)},
	} {
		_, _, _ = unix.RawSyscall(id.call, id.want, 0, 0)         // says what it was before, never an error
		have, _, _ := unix.RawSyscall(id.call, ^uintptr(0), 0, 0) // an id that is none changes nothing
		if uint32(have) != uint32(id.want) {
			return fmt.Errorf("take the rights of uid %d: %w", owner.UID, unix.EPERM)
		}
	}
	return nil
}
