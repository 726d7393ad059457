package helper

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const openFlags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY

// hash reads the file.
func (o *hashOrder) hash() (HashAnswer, error) {
	fd, err := o.open()
	if err != nil {
		return HashAnswer{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	before, err := look(fd)
	if err != nil {
		return HashAnswer{}, err
	}
	if before.Size > uint64(o.MaxBytes) {
		return HashAnswer{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, before.Size)
	}
	sum, size, err := digest(fd, o.MaxBytes)
	if err != nil {
		return HashAnswer{}, err
	}
	after, err := look(fd)
	if err != nil {
		return HashAnswer{}, err
	}
	if before.Inode != after.Inode || before.Ctime != after.Ctime || before.Size != after.Size || size != after.Size {
		return HashAnswer{}, ErrChanged
	}
	after.SHA256 = sum
	return after, nil
}

// open opens the first that can be. If none can, the error is that of the first that is there at all.
func (o *hashOrder) open() (int, error) {
	var worst error
	for _, way := range []struct {
		try  bool
		find func() (int, error)
	}{
		{o.File, func() (int, error) { return unix.Dup(fileFD) }},
		{o.PID != 0, o.findRunning},
		{o.PID != 0 && len(o.Path) > 0, func() (int, error) { return o.findBelow(fmt.Sprintf("/proc/%d/root", o.PID)) }},
		{len(o.Path) > 0, func() (int, error) { return o.findBelow("/") }},
	} {
		if !way.try {
			continue
		}
		fd, err := reopen(way.find())
		if err == nil {
			return fd, nil
		}
		if worst == nil || problemOf(worst) == problemGone && problemOf(err) != problemGone {
			worst = err
		}
	}
	return -1, worst
}

// reopen opens what find found for reading, if it is a regular file: to open a device may do something.
func reopen(found int, err error) (int, error) {
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(found) }()
	if _, err := look(found); err != nil {
		return -1, err
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", found), openFlags, 0)
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	return fd, nil
}

// findRunning finds what the process runs. The kernel shows it to its own user, unless it is not dumpable.
func (o *hashOrder) findRunning() (int, error) {
	path := fmt.Sprintf("/proc/%d/exe", o.PID)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("find %s: %w", path, err)
	}
	return fd, nil
}

// findBelow never leaves root: an absolute link leads to a place inside it.
func (o *hashOrder) findBelow(root string) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("find %s: %w", root, err)
	}
	defer func() { _ = unix.Close(base) }()
	fd, err := unix.Openat2(base, string(o.Path), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("find the path below %s: %w", root, err)
	}
	return fd, nil
}

// look gives what stat shows of a regular file.
func look(fd int) (HashAnswer, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return HashAnswer{}, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return HashAnswer{}, fmt.Errorf("%w: no regular file", ErrUnreadable)
	}
	return HashAnswer{Device: st.Dev, Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(st.Size)}, nil
}

// digest reads to the end, but no further than limit bytes.
func digest(fd int, limit int64) (sum []byte, size uint64, err error) {
	h := sha256.New()
	buffer := make([]byte, 256<<10)
	for {
		n, err := unix.Read(fd, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return h.Sum(nil), size, nil
		}
		_, _ = h.Write(buffer[:n]) // a hash takes everything
		if size += uint64(n); size > uint64(limit) {
			return nil, 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
	}
}
