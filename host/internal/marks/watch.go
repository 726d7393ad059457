package marks

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// file is one, as stat names it.
type file struct{ device, inode uint64 }

// Watch has the sink told of writes to an open file, from now on and at least while it is open; it is to be called before
// the file is read. The kernel names a mark by its file alone, so that single marks of closed files cannot be taken away: when there are too many, all
// go, and the sink is told Overflow.
func (m *Marks) Watch(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("watch executable: %w", err)
	}
	// Evictable: the mark goes with the file's entry in the kernel's memory rather than keeping it there. Whoever has the file
	// open keeps it too.
	if err := unix.FanotifyMark(m.group, unix.FAN_MARK_ADD|unix.FAN_MARK_EVICTABLE, unix.FAN_MODIFY, fd, ""); err != nil {
		return fmt.Errorf("watch executable for writes: %w", err)
	}
	if m.tooMany(file{st.Dev, st.Ino}) {
		return m.flush()
	}
	return nil
}

// tooMany counts a file, and tells whether that was one too many: then the count begins anew.
func (m *Marks) tooMany(f file) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched[f] = true
	if len(m.watched) <= m.options.MaxWatched {
		return false
	}
	m.count(func(c *Counters) { c.Unwatched += uint64(len(m.watched)) })
	clear(m.watched)
	return true
}

func (m *Marks) flush() error {
	if err := unix.FanotifyMark(m.group, unix.FAN_MARK_FLUSH, 0, unix.AT_FDCWD, "/"); err != nil {
		return fmt.Errorf("take marks of executables away: %w", err)
	}
	m.mu.Lock()
	sink := m.sink
	m.mu.Unlock()
	if sink != nil {
		sink.Overflow()
	}
	return nil
}
