package launch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits of every plugin.
const (
	openFiles  = 1024
	spareBytes = 64 << 20 // RLIMIT_DATA above the memory granted: a Go program maps more than it uses
)

// limit sets the resource limits.
func (r *Report) limit(spec *Spec) error {
	limits := []struct {
		resource int
		value    uint64
		name     string
	}{
		{unix.RLIMIT_CORE, 0, "core"},
		{unix.RLIMIT_NOFILE, openFiles, "open files"},
		{unix.RLIMIT_MEMLOCK, 64 << 10, "locked memory"},
		{unix.RLIMIT_MSGQUEUE, 0, "message queues"},
	}
	if spec.MemoryMB > 0 {
		limits = append(limits, struct {
			resource int
			value    uint64
			name     string
		}{unix.RLIMIT_DATA, uint64(spec.MemoryMB)<<20 + spareBytes, "data"})
		r.did("memory: %d MiB and 64 MiB spare (RLIMIT_DATA)", spec.MemoryMB)
	}
	if spec.Sandbox != nil && spec.Sandbox.Processes > 0 {
		limits = append(limits, struct {
			resource int
			value    uint64
			name     string
		}{unix.RLIMIT_NPROC, uint64(spec.Sandbox.Processes), "processes"})
		r.did("threads and processes: %d", spec.Sandbox.Processes)
	}
	for _, l := range limits {
		var had unix.Rlimit
		if err := unix.Prlimit(0, l.resource, nil, &had); err != nil {
			return fmt.Errorf("read limit of %s: %w", l.name, err)
		}
		value := min(l.value, had.Max)
		if err := unix.Prlimit(0, l.resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return fmt.Errorf("limit %s: %w", l.name, err)
		}
	}
	return nil
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
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for capability := uintptr(0); ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > unix.CAP_SETPCAP {
			break // past the last one that this kernel knows
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", capability, err)
		}
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
