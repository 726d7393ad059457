package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Files is a directory as record needs it. Names have no slash. Errors say what was tried and with which file.
type Files interface {
	// ReadFile gives the whole file. Errors wrap fs.ErrNotExist where that is the cause; a file longer than limit bytes
	// is an error, never cut.
	ReadFile(name string, limit int64) ([]byte, error)
	// WriteFile replaces the file as a whole: a reader, or a crash, sees the old content or the new.
	WriteFile(name string, data []byte, perm fs.FileMode) error
	// Append adds data in one write, and makes the file if there is none.
	Append(name string, data []byte) error
}

// ErrTooLong is wrapped by the error of [Directory.ReadFile] for a file beyond the limit.
var ErrTooLong = errors.New("file is too long")

// Directory is a [Files] over a directory that only its owner can write, such as the state directory. It follows links
// and is not for directories of other users.
type Directory struct{ path string }

// NewDirectory makes the directory (0700) if there is none; its parent must exist.
func NewDirectory(path string) (*Directory, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return &Directory{path: path}, nil
}

// ReadFile implements [Files].
func (d *Directory) ReadFile(name string, limit int64) ([]byte, error) {
	file, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w: more than %d bytes", file.Name(), ErrTooLong, limit)
	}
	return data, nil
}

// WriteFile implements [Files]. The data is on the disk when it returns nil.
func (d *Directory) WriteFile(name string, data []byte, perm fs.FileMode) error {
	temporary, err := os.CreateTemp(d.path, name+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // after the rename there is nothing left to remove
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Chmod(perm), temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), filepath.Join(d.path, name)); err != nil {
		return err
	}
	return d.sync()
}

// sync makes a rename last: it is an entry of the directory, not of the file.
func (d *Directory) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Append implements [Files].
func (d *Directory) Append(name string, data []byte) error {
	file, err := os.OpenFile(filepath.Join(d.path, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}
