package home

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

var (
	// ErrUnsafe says that something stands in the place of a file or directory that could be a trap: a link, a second
	// name, a pipe, a device, another user's directory.
	ErrUnsafe = errors.New("refused")
	// ErrTooLarge says that a file is longer than its reader allows.
	ErrTooLarge = errors.New("is too large")
)

// Dir is an open directory of a user. It stays the same directory when the user renames it.
type Dir struct {
	path   string // for messages
	owner  Owner
	fd     int // used by the worker alone
	w      *worker
	closed sync.Once
}

// Open opens dir with the rights of owner, and makes it, and missing directories between it and the owner's home, with
// mode 0700. Below the home no part of it may be a symbolic link; a directory elsewhere needs a parent that exists.
// It must belong to owner.
func Open(dir string, owner Owner) (*Dir, error) {
	w, err := startWorker(owner)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	opened := make(chan int, 1) // not a variable: after ErrStuck the worker may still be at it
	err = w.do(func() error {
		fd, err := openOwned(dir, owner)
		if err == nil {
			opened <- fd
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), w.close())
	}
	return &Dir{path: dir, owner: owner, fd: <-opened, w: w}, nil
}

// Path is the directory's name when it was opened, for messages.
func (d *Dir) Path() string { return d.path }

// Owner is the user it belongs to.
func (d *Dir) Owner() Owner { return d.owner }

// Close releases the directory and its thread. Calls under way end first. A second Close does nothing.
func (d *Dir) Close() error {
	var err error
	d.closed.Do(func() {
		if err = d.w.close(); err == nil {
			err = unix.Close(d.fd)
		}
	})
	if err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// openOwned walks to dir and checks whose it is.
func openOwned(dir string, owner Owner) (int, error) {
	base, elements := split(dir, owner.Home)
	fd, err := unix.Open(base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", base, err)
	}
	for _, name := range elements {
		next, err := enter(fd, name)
		_ = unix.Close(fd)
		if err != nil {
			return -1, fmt.Errorf("enter %s as uid %d: %w", name, owner.UID, err)
		}
		fd = next
	}
	if err := ownedBy(fd, owner.UID); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ownedBy refuses what belongs to somebody else.
func ownedBy(fd int, uid uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Uid != uid {
		return fmt.Errorf("%w: it belongs to uid %d, not to uid %d (chown -R %d it, or name another with --config-dir)",
			ErrUnsafe, st.Uid, uid, uid)
	}
	return nil
}

// split gives the part of dir that is trusted to contain links, and the names below it.
func split(dir, home string) (base string, elements []string) {
	dir = filepath.Clean(dir)
	if rel, err := filepath.Rel(home, dir); home != "" && err == nil && rel != "." && filepath.IsLocal(rel) {
		return home, strings.Split(rel, "/")
	}
	return filepath.Dir(dir), []string{filepath.Base(dir)}
}

// enter opens the directory name below fd, and makes it first if it is missing.
func enter(fd int, name string) (int, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	next, err := openBelow(fd, name, flags, 0)
	if !errors.Is(err, unix.ENOENT) {
		return next, err
	}
	switch err := unix.Mkdirat(fd, name, 0o700); {
	case errors.Is(err, fs.ErrPermission):
		return -1, fmt.Errorf("mkdir: %w (make it for whom it shall belong to)", err)
	case err != nil && !errors.Is(err, unix.EEXIST):
		return -1, fmt.Errorf("mkdir: %w", err)
	}
	return openBelow(fd, name, flags, 0)
}

// tries bounds what is tried again because somebody was renaming at the same time.
const tries = 100

// openBelow opens a name below a directory: never through a link, never waiting for the other end of a pipe.
func openBelow(fd int, name string, flags int, mode uint32) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 { // which opens nothing that could wait
		flags |= unix.O_NONBLOCK | unix.O_NOCTTY
	}
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for try := 1; ; try++ {
		opened, err := unix.Openat2(fd, name, &how)
		switch {
		case tries > try && (errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)):
			continue // EAGAIN: a rename got in the way, see openat2(2)
		case errors.Is(err, unix.ELOOP):
			return -1, fmt.Errorf("%w: a symbolic link", ErrUnsafe)
		case errors.Is(err, unix.ENXIO):
			return -1, fmt.Errorf("%w: a pipe, socket or device", ErrUnsafe)
		case errors.Is(err, unix.ENOTDIR):
			return -1, fmt.Errorf("%w: %w, or a symbolic link", ErrUnsafe, err)
		}
		return opened, err
	}
}

// plainName refuses what is not one element of a path.
func plainName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	}
	return nil
}

// run checks names and does fn on the thread.
func (d *Dir) run(what, name string, fn func() error) error {
	err := plainName(name)
	if err == nil {
		err = d.w.do(fn)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, filepath.Join(d.path, name), err)
	}
	return nil
}
