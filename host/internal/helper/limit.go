package helper

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/rights"
)

// unprivileged refuses to work with any right that the host should have taken.
func unprivileged(uid, gid uint32) error {
	ruid, euid, suid := unix.Getresuid()
	rgid, egid, sgid := unix.Getresgid()
	for _, id := range []struct{ have, want int }{
		{ruid, int(uid)}, {euid, int(uid)}, {suid, int(uid)}, {rgid, int(gid)}, {egid, int(gid)}, {sgid, int(gid)},
	} {
		if id.have != id.want {
			return fmt.Errorf("check credentials: have id %d, ordered is %d: %w", id.have, id.want, unix.EPERM)
		}
	}
	if groups, err := unix.Getgroups(); err != nil || len(groups) > 0 {
		return fmt.Errorf("check credentials: in %d groups: %w", len(groups), errors.Join(err, unix.EPERM))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if sets != [2]unix.CapUserData{} {
		return fmt.Errorf("check credentials: has capabilities: %w", unix.EPERM)
	}
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || set != 1 {
		return fmt.Errorf("check credentials: may gain privileges: %w", errors.Join(err, unix.EPERM))
	}
	return nil
}

// limit bounds this process and those that it starts. Not RLIMIT_AS: a Go program reserves more than it uses. Not
// RLIMIT_NPROC: it counts all that the user runs, desktop included, so that a small one would leave no thread to Go; new
// processes are confine's matter.
func limit(cpuSeconds uint64, memoryMB int) error {
	return errors.Join(
		rights.Lower(unix.RLIMIT_CORE, 0, "core"),
		rights.Lower(unix.RLIMIT_FSIZE, 0, "file size"),
		rights.Lower(unix.RLIMIT_CPU, cpuSeconds, "processor time"),
		rights.Lower(unix.RLIMIT_DATA, uint64(memoryMB)<<20, "data"),
		rights.Lower(unix.RLIMIT_NOFILE, 64, "open files"),
		rights.Lower(unix.RLIMIT_MEMLOCK, 0, "locked memory"),
		rights.Lower(unix.RLIMIT_MSGQUEUE, 0, "message queues"),
	)
}
