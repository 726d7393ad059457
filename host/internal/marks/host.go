package marks

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// followMounts marks what is mounted later, until Close.
func (m *Marks) followMounts(table *mountTable, sink Sink) {
	defer table.close()
	fds := []unix.PollFd{{Fd: int32(table.fd), Events: unix.POLLPRI}, {Fd: int32(m.wake), Events: unix.POLLIN}}
	for m.ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			m.complain("wait for mounts: " + err.Error())
			return
		}
		if fds[0].Revents == 0 {
			continue
		}
		mounts, err := table.read()
		if err != nil {
			m.complain(err.Error())
			return
		}
		m.markHost(mounts)
		sink.Mounts(mounts)
	}
}

// markHost marks every file system of the host's table, also those that carry a mark: one may have gone and its
// number may have been given to the next since the table was last read. Mounts get the number that is never used again.
func (m *Marks) markHost(mounts []Mount) {
	marked := map[uint64]bool{}
	for i := range mounts {
		at := &mounts[i]
		if at.Kind != Local && at.Kind != Stacked || !Reaches(mounts, at.Point, Served) {
			continue
		}
		err := m.markAt(unix.AT_FDCWD, at, 0)
		switch {
		case err == nil:
			marked[at.Device] = true
		case errors.Is(err, errElsewhere): // mounted over, or gone again
		default:
			m.count(func(c *Counters) { c.Unmarked++ })
			m.complain(fmt.Sprintf("executables on %s (%s) cannot be followed: %v", at.Point, at.Type, err))
		}
	}
	m.count(func(c *Counters) { c.FileSystems = uint64(len(marked)) })
}

// errElsewhere tells that a mount point now shows something else.
var errElsewhere = errors.New("another file system is there now")

// markAt marks the file system that is mounted at a place below root, if it is still there, and puts the mount's unique
// number into at.
func (m *Marks) markAt(root int, at *Mount, resolve uint64) error {
	fd, err := unix.Openat2(root, at.Point, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errElsewhere
	}
	if err != nil {
		return fmt.Errorf("open mount point: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(fd, "", flags, unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("stat mount point: %w", err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 || st.Mnt_id != at.ID {
		return errElsewhere
	}
	if err := unix.Statx(fd, "", flags, unix.STATX_MNT_ID_UNIQUE, &st); err == nil && st.Mask&unix.STATX_MNT_ID_UNIQUE != 0 {
		at.ID = st.Mnt_id
	}
	return m.mark(fd)
}

// mark asks for the executions on the file system of an open file.
func (m *Marks) mark(fd int) error {
	path := fmt.Sprintf("/proc/self/fd/%d", fd) // the kernel takes no O_PATH descriptor
	if err := unix.FanotifyMark(m.group, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_OPEN_EXEC, unix.AT_FDCWD, path); err != nil {
		return fmt.Errorf("mark file system: %w", err)
	}
	return nil
}
