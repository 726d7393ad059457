package identity

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openExecutable opens the very file that the kernel executed: through the process while it runs, else by its path. What
// is found is compared with what the kernel reported; another file is never used.
func (t *Table) openExecutable(r openRequest) (*os.File, wire.HashStatus) {
	file, status := t.openThrough(func() (int, error) {
		path := fmt.Sprintf("%s/%d/exe", t.options.ProcRoot, r.pid)
		return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	}, r.file)
	if file != nil || len(r.path) == 0 || r.path[0] != '/' {
		return file, status
	}
	byPath, pathStatus := t.openThrough(func() (int, error) {
		return unix.Openat2(unix.AT_FDCWD, r.path, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
			Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
	}, r.file)
	if pathStatus == wire.HashStatus_HASH_GONE {
		pathStatus = status
	}
	return byPath, pathStatus
}

func (t *Table) openThrough(open func() (int, error), want capture.FileKey) (*os.File, wire.HashStatus) {
	fd, err := open()
	if err == unix.EACCES || err == unix.EPERM || err == unix.EIO {
		return nil, wire.HashStatus_HASH_UNREADABLE
	}
	if err != nil {
		return nil, wire.HashStatus_HASH_GONE
	}
	file := os.NewFile(uintptr(fd), "executable")
	switch t.compare(fd, want) {
	case same:
		return file, wire.HashStatus_HASH_PENDING
	case changed:
		file.Close()
		return nil, wire.HashStatus_HASH_CHANGED
	default:
		file.Close()
		return nil, wire.HashStatus_HASH_GONE
	}
}

// likeness of an open file and what the kernel executed.
type likeness int

const (
	other   likeness = iota
	changed          // same file, written since
	same
)

func likenessOf(have, want capture.FileKey) likeness {
	switch {
	case have.Device != want.Device || have.Inode != want.Inode:
		return other
	case have.Ctime != want.Ctime || have.Size != want.Size:
		return changed
	}
	return same
}

// compare asks stat, and where that shows another file the kernel itself: on btrfs and overlayfs the two differ.
func (t *Table) compare(fd int, want capture.FileKey) likeness {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return other
	}
	have := capture.FileKey{Device: st.Dev, Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(st.Size)}
	like := likenessOf(have, want)
	if like != other || t.options.KernelKey == nil {
		return like
	}
	have, err := t.options.KernelKey(fd)
	if err != nil {
		return other
	}
	return likenessOf(have, want)
}

// unchanged tells whether the file is still what the kernel executed.
func (t *Table) unchanged(file *os.File, want capture.FileKey) bool {
	return t.compare(int(file.Fd()), want) == same
}
