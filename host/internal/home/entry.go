package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Info describes a name without following it.
type Info struct {
	Mode     fs.FileMode // type and permissions
	Size     int64
	UID, GID uint32
	Links    uint64
	Device   uint64
	Inode    uint64
	Modified time.Time
	Target   string // of a symbolic link
}

// maxTarget bounds the target of a link.
const maxTarget = 4096

// Lstat describes what has the name. Errors wrap fs.ErrNotExist when nothing has.
func (d *Dir) Lstat(name string) (Info, error) {
	found := make(chan Info, 1)
	err := d.run("stat", name, func() error {
		var st unix.Stat_t
		if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		info := Info{
			Mode: modeOf(st.Mode), Size: st.Size, UID: st.Uid, GID: st.Gid, Links: uint64(st.Nlink),
			Device: st.Dev, Inode: st.Ino, Modified: time.Unix(st.Mtim.Unix()),
		}
		if info.Mode&fs.ModeSymlink != 0 {
			target, err := readlink(d.fd, name)
			if err != nil {
				return err
			}
			info.Target = target
		}
		found <- info
		return nil
	})
	if err != nil {
		return Info{}, err
	}
	return <-found, nil
}

// Symlink makes name a symbolic link to target, which a user's programs will follow but a Dir never does. A link that
// already leads there is success; anything else that has the name is fs.ErrExist and stays.
func (d *Dir) Symlink(name, target string) error {
	return d.run("link", name, func() error {
		err := unix.Symlinkat(target, d.fd, name)
		if errors.Is(err, unix.EEXIST) {
			if have, rerr := readlink(d.fd, name); rerr == nil && have == target {
				return nil
			}
		}
		if err != nil {
			return err
		}
		return d.sync()
	})
}

// Rename gives a file, directory or link another name in the same directory. A name that is taken is fs.ErrExist.
func (d *Dir) Rename(old, new string) error {
	if err := plainName(old); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return d.run("rename "+old+" to", new, func() error {
		if err := unix.Renameat2(d.fd, old, d.fd, new, unix.RENAME_NOREPLACE); err != nil {
			return err
		}
		return d.sync()
	})
}

// Mkdir makes sure that name is a directory of the owner's with exactly these permissions.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	return d.run("make directory", name, func() error {
		fd, err := enter(d.fd, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := ownedBy(fd, d.owner.UID); err != nil {
			return err
		}
		if err := unix.Fchmod(fd, uint32(perm.Perm())); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
		return d.sync()
	})
}

// OpenDir returns the directory name, which must exist and belong to the owner, as a descriptor (O_PATH) to mount from.
// The caller closes it.
func (d *Dir) OpenDir(name string) (*os.File, error) {
	opened := make(chan *os.File, 1)
	err := d.run("open directory", name, func() error {
		fd, err := openBelow(d.fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		if err := ownedBy(fd, d.owner.UID); err != nil {
			_ = unix.Close(fd)
			return err
		}
		opened <- os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return <-opened, nil
}

func readlink(fd int, name string) (string, error) {
	target := make([]byte, maxTarget)
	n, err := unix.Readlinkat(fd, name, target)
	if err != nil {
		return "", fmt.Errorf("read link: %w", err)
	}
	return string(target[:n]), nil
}

// modeOf translates the kernel's bits that matter here.
func modeOf(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	default:
		m |= fs.ModeDevice
	}
	return m
}
