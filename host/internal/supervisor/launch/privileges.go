package launch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/rights"
)

// Limits of every plugin.
const (
	openFiles  = 1024
	spareBytes = 64 << 20 // RLIMIT_DATA above the memory granted: a Go program maps more than it uses
)

// limit sets the resource limits.
func (r *Report) limit(spec *Spec) error {
	err := errors.Join(
		rights.Lower(unix.RLIMIT_CORE, 0, "core"),
		rights.Lower(unix.RLIMIT_NOFILE, openFiles, "open files"),
		rights.Lower(unix.RLIMIT_MEMLOCK, 64<<10, "locked memory"),
		rights.Lower(unix.RLIMIT_MSGQUEUE, 0, "message queues"),
	)
	if spec.MemoryMB > 0 {
		err = errors.Join(err, rights.Lower(unix.RLIMIT_DATA, uint64(spec.MemoryMB)<<20+spareBytes, "data"))
		r.did("memory: %d MiB and 64 MiB spare (RLIMIT_DATA)", spec.MemoryMB)
	}
	if spec.Sandbox != nil && spec.Sandbox.Processes > 0 {
		err = errors.Join(err, rights.Lower(unix.RLIMIT_NPROC, uint64(spec.Sandbox.Processes), "processes"))
		r.did("threads and processes: %d", spec.Sandbox.Processes)
	}
	return err
}

// drop gives up every privilege for ever. The calls are raw: package syscall's would change all threads, and wait for
// them, though only this one goes on.
func (r *Report) drop(sandbox *Sandbox) error {
	if sandbox != nil {
		if err := r.become(sandbox.UID, sandbox.GID); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl NO_NEW_PRIVS: %w", err)
	}
	r.did("no_new_privs")
	return nil
}

func (r *Report) become(uid, gid uint32) error {
	if uid == 0 || gid == 0 {
		return errors.New("a plugin is never root")
	}
	if err := rights.DropInherited(); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("setgroups: %w", errno)
	}
	g, u := uintptr(gid), uintptr(uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, g, g, g); errno != 0 {
		return fmt.Errorf("setresgid %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, u, u, u); errno != 0 {
		return fmt.Errorf("setresuid %d: %w", uid, errno)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	r.did("user: %d, no groups, no capabilities", uid)
	return nil
}

func (r *Report) did(format string, args ...any) {
	r.Enforced = append(r.Enforced, fmt.Sprintf(format, args...))
}

func (r *Report) missed(format string, args ...any) {
	r.Missing = append(r.Missing, fmt.Sprintf(format, args...))
}
