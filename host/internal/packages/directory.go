package packages

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// directory is an open directory of a database. Links below it are not followed.
type directory struct {
	path  string // for messages
	trust uint32
	file  *os.File
}

// openDirectory opens path below root, and refuses one that somebody but the trusted user can write.
func openDirectory(root, path string, trust uint32) (*directory, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer func() { _ = unix.Close(base) }()
	return openBelow(base, filepath.Join(root, path), path, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, trust)
}

func openBelow(base int, full, path string, resolve uint64, trust uint32) (*directory, error) {
	fd, err := unix.Openat2(base, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", full, err)
	}
	d := &directory{path: full, trust: trust, file: os.NewFile(uintptr(fd), full)}
	if err := d.trusted(fd, unix.S_IFDIR); err != nil {
		d.close()
		return nil, fmt.Errorf("open %s: %w", full, err)
	}
	return d, nil
}

func (d *directory) close() { _ = d.file.Close() }

// sub opens a directory inside.
func (d *directory) sub(name string) (*directory, error) {
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	return openBelow(int(d.file.Fd()), filepath.Join(d.path, name), name, resolve, d.trust)
}

// maxNames bounds a directory: ten times the largest systems known.
const maxNames = 1 << 20

// names lists the directory.
func (d *directory) names() ([]string, error) {
	names, err := d.file.Readdirnames(maxNames)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list %s: %w", d.path, err)
	}
	return names, nil
}

// read appends a whole file to buffer[:0]. It is an error if the file is longer than limit bytes.
func (d *directory) read(name string, limit int64, buffer []byte) ([]byte, error) {
	fd, err := unix.Openat2(int(d.file.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, d.failed(name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := d.trusted(fd, unix.S_IFREG); err != nil {
		return nil, d.failed(name, err)
	}
	text, err := readAll(fd, limit, buffer[:0])
	if err != nil {
		return nil, d.failed(name, err)
	}
	return text, nil
}

// readAll appends what is read up to the end of the file. Its size is a hint: most files take one read.
func readAll(fd int, limit int64, buffer []byte) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	buffer = slices.Grow(buffer, int(min(max(st.Size, 0), limit))+512)
	for int64(len(buffer)) <= limit {
		buffer = slices.Grow(buffer, 512)
		n, err := reader(fd).Read(buffer[len(buffer):cap(buffer)])
		if errors.Is(err, io.EOF) {
			return buffer, nil
		}
		if err != nil {
			return nil, err
		}
		buffer = buffer[:len(buffer)+n]
	}
	return nil, fmt.Errorf("longer than %d bytes: %w", limit, fs.ErrInvalid)
}

func (d *directory) failed(name string, err error) error {
	return fmt.Errorf("read %s: %w", filepath.Join(d.path, name), err)
}

// trusted checks kind, owner and mode of an open file.
func (d *directory) trusted(fd int, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	foreign := st.Uid != d.trust && st.Uid != 0
	writable := st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && st.Gid != 0
	if st.Mode&unix.S_IFMT != kind || foreign || writable {
		return ErrUntrusted
	}
	return nil
}

// reader reads a descriptor that stays its opener's. A regular file needs no poller.
type reader int

func (r reader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), p)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
