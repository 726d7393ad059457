package identity

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openExecutable opens the very file that the kernel executed: through the process while it runs, else by its path. What is
// found is compared with what the kernel reported; another file is never used.
func (t *Table) openExecutable(r openRequest) opened {
	o := t.openThrough(func() (int, error) {
		path := fmt.Sprintf("%s/%d/exe", t.options.ProcRoot, r.facts.Key.Tgid)
		return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	}, r.file, r.facts)
	if o.file != nil || len(r.path) == 0 || r.path[0] != '/' || !t.reach(r.path) {
		return o
	}
	byPath := t.openThrough(func() (int, error) {
		return unix.Openat2(unix.AT_FDCWD, r.path, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
			Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
	}, r.file, nil)
	if byPath.status == wire.HashStatus_HASH_GONE {
		byPath.status = o.status
	}
	return byPath
}

// openThrough opens a file and compares it. One whose time has changed is of use only while somebody runs it.
func (t *Table) openThrough(open func() (int, error), want capture.FileKey, runner *capture.Process) opened {
	fd, err := open()
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EIO) {
		return opened{status: wire.HashStatus_HASH_UNREADABLE}
	}
	if err != nil {
		return opened{status: wire.HashStatus_HASH_GONE}
	}
	followed, stat := t.follow(fd), statOf(fd)
	like := t.compare(fd, want)
	if like == same || like == changed && runner != nil && stat.Size == want.Size {
		return opened{
			file: os.NewFile(uintptr(fd), "executable"), status: wire.HashStatus_HASH_PENDING,
			stat: stat, same: like == same, followed: followed && like == same, runner: runner,
		}
	}
	_ = unix.Close(fd)
	if like == changed {
		return opened{status: wire.HashStatus_HASH_CHANGED}
	}
	return opened{status: wire.HashStatus_HASH_GONE}
}

// likeness of an open file and what the kernel executed.
type likeness int

const (
	other   likeness = iota
	changed          // same file, written since
	same
)

func likenessOf(have, want capture.FileKey) likeness { return likenessUnder(^uint64(0), have, want) }

// likenessUnder compares those bits of the device number that are set in mask.
func likenessUnder(mask uint64, have, want capture.FileKey) likeness {
	switch {
	case have.Device&mask != want.Device&mask || have.Inode != want.Inode:
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
	like := likenessUnder(t.options.DeviceMask, keyOfStat(&st), want)
	if like != other || t.options.KernelKey == nil || !mayBe(fd, want.Inode) {
		return like
	}
	have, err := t.options.KernelKey(fd)
	if err != nil {
		return other
	}
	return likenessOf(have, want)
}

// mayBe tells whether the kernel's inode number of an open file is this one, or cannot be told: to ask it for the rest of
// the name costs a walk over all open files.
func mayBe(fd int, inode uint64) bool {
	have, known := kernelInode(fd)
	return !known || have == inode
}

// kernelInode is what /proc says since Linux 5.14. It is not stat's number on overlayfs.
func kernelInode(fd int) (uint64, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(raw)) {
		if value, found := strings.CutPrefix(line, "ino:"); found {
			inode, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return inode, err == nil
		}
	}
	return 0, false
}

func statOf(fd int) capture.FileKey {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return capture.FileKey{}
	}
	return keyOfStat(&st)
}
