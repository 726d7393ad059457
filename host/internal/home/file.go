package home

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newLog is the mode of a file that Append makes.
const newLog = 0o600

// ReadFile returns a file's content. Errors: fs.ErrNotExist; [ErrTooLarge] beyond limit bytes; [ErrUnsafe]; [ErrStuck].
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	content := make(chan []byte, 1)
	err := d.run("read", name, func() error {
		data, err := readFile(d.fd, name, limit)
		if err == nil {
			content <- data
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-content, nil
}

// ReadFile is [Dir.ReadFile] with the rights of the thread that calls it, whoever owns the directory.
func ReadFile(path string, limit int64) ([]byte, error) {
	dir := filepath.Dir(path)
	above, err := unix.Open(filepath.Dir(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Dir(dir), err)
	}
	defer unix.Close(above)
	fd, err := openBelow(above, filepath.Base(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	data, err := readFile(fd, filepath.Base(path), limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

func readFile(dir int, name string, limit int64) ([]byte, error) {
	f, err := openFile(dir, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, bare(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return data, nil
}

// WriteFile replaces a file as a whole: a reader, or a crash, finds the old content or the new. It is on the disk when
// WriteFile returns nil. Whatever had the name, but a directory, is gone then; a link is replaced, never followed.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	data = bytes.Clone(data) // see worker.do
	temporary := "." + name + ".new"
	return d.run("write", name, func() error {
		if err := plainName(temporary); err != nil {
			return err
		}
		// What has the name of the temporary file was left by a crash, or put there by another hand.
		if err := unix.Unlinkat(d.fd, temporary, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", temporary, err)
		}
		if err := d.create(temporary, data, perm); err != nil {
			return err
		}
		if err := unix.Renameat(d.fd, temporary, d.fd, name); err != nil {
			return errors.Join(fmt.Errorf("rename: %w", err), unix.Unlinkat(d.fd, temporary, 0))
		}
		return d.sync()
	})
}

// create writes a file that must not exist yet, and removes it again if that fails.
func (d *Dir) create(name string, data []byte, perm fs.FileMode) error {
	f, err := openFile(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm.Perm()) // the umask does not count
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(bare(err), unix.Unlinkat(d.fd, name, 0))
	}
	return nil
}

// sync makes a new name last: it is an entry of the directory, not of the file.
func (d *Dir) sync() error {
	if err := unix.Fsync(d.fd); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// Append adds data to a file with one write, and makes the file (0600) if there is none. It does not wait for the disk.
func (d *Dir) Append(name string, data []byte) error {
	data = bytes.Clone(data) // see worker.do
	return d.run("append to", name, func() error {
		f, err := openFile(d.fd, name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, newLog)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return bare(errors.Join(err, f.Close()))
	})
}

// openFile opens a regular file that has one name. A second one could belong to a file that the user may write to, but
// that somebody else relies on.
func openFile(dir int, name string, flags int, mode uint32) (*os.File, error) {
	for range tries {
		fd, err := openBelow(dir, name, flags, mode)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		switch {
		case err != nil:
			err = fmt.Errorf("stat: %w", err)
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			err = fmt.Errorf("%w: not a regular file", ErrUnsafe)
		case st.Nlink > 1:
			err = fmt.Errorf("%w: the file has a second name (hard link)", ErrUnsafe)
		case st.Nlink == 1:
			return os.NewFile(uintptr(fd), name), nil
		}
		_ = unix.Close(fd)
		if err != nil {
			return nil, err
		}
		// No name is left: it was replaced between the two calls. Look again.
	}
	return nil, fmt.Errorf("%w: it is replaced all the time", ErrUnsafe)
}

// bare takes the path out of an error of package os, which knows the name without its directory.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
}
