package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/home"
)

// ErrNoIDMap says that the file system cannot show its files as another user's.
var ErrNoIDMap = errors.New("file system has no idmapped mounts")

// Mount is a detached copy of a directory, ready to be moved into a sandbox.
type Mount struct {
	Path     string // where it appears
	tree     *os.File
	readOnly bool
}

// Close drops the host's reference.
func (m *Mount) Close() error { return m.tree.Close() }

// Owner is who files belong to on disk.
type Owner struct{ UID, GID uint32 }

// OpenDirectory opens path, made with mode 0700 if missing, in the owner's name: nothing is reached or made that the owner
// could not reach or make. Its last name is no link; it must be a directory of the owner's, or of one of the users that an
// earlier start gave it to, where the file system has no idmapped mounts.
func OpenDirectory(path string, owner Owner, former ...uint32) (*os.File, error) {
	var dir *os.File
	err := as(owner, func() error {
		parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", filepath.Dir(path), err)
		}
		defer func() { _ = unix.Close(parent) }()
		name := filepath.Base(path)
		if err := unix.Mkdirat(parent, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make %s: %w", path, err)
		}
		const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
		fd, err := unix.Openat(parent, name, flags, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		dir = os.NewFile(uintptr(fd), path)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || st.Uid != owner.UID && !slices.Contains(former, st.Uid) {
		return nil, errors.Join(fmt.Errorf("%s belongs to uid %d, not %d", path, st.Uid, owner.UID), err, dir.Close())
	}
	return dir, nil
}

// OpenPath opens an existing directory or file in the owner's name, to be granted to a plugin.
func OpenPath(path string, owner Owner) (*os.File, error) {
	var file *os.File
	err := as(owner, func() error {
		// Not O_PATH: the owner must be able to read it.
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if errors.Is(err, unix.ENXIO) { // a socket: who may connect is asked then
			fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			return fmt.Errorf("open %s as uid %d: %w", path, owner.UID, err)
		}
		file = os.NewFile(uintptr(fd), path)
		return nil
	})
	return file, err
}

// as calls f on a thread whose file accesses are the owner's. Without root they are already, or never will be.
func as(owner Owner, f func() error) error {
	if os.Geteuid() != 0 || owner.UID == 0 {
		return f()
	}
	return home.As(context.Background(), home.Owner{UID: owner.UID, GID: owner.GID}, f)
}

// NewMount makes a detached mount of an open directory or file, to appear at path. With ids, a user namespace of
// [NewIDMap], the owners that it maps appear as others; [ErrNoIDMap] is wrapped where that cannot be.
func NewMount(source *os.File, path string, ids *os.File, readOnly bool) (*Mount, error) {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	fd, err := unix.OpenTree(int(source.Fd()), "", flags)
	if err != nil {
		return nil, fmt.Errorf("open_tree %s: %w", path, err)
	}
	m := &Mount{Path: path, tree: os.NewFile(uintptr(fd), path), readOnly: readOnly}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	attr.Propagation = unix.MS_PRIVATE
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, errors.Join(fmt.Errorf("mount_setattr %s: %w", path, err), m.Close())
	}
	if ids == nil {
		return m, nil
	}
	mapped := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ids.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &mapped); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrNoIDMap, path, err), m.Close())
	}
	return m, nil
}
