package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// state is what must be true and what nobody but root may touch: the directory of the journal, of known executables and
// of the last good configuration.
type state struct {
	dir    string
	hostID [16]byte // names this host in every record; ours, never the machine-id, which clones share
	secret []byte   // keys the names that records give to kernel objects
}

// openState opens the state directory, made if missing.
func openState(dir string) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, fmt.Errorf("look at state directory %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("state directory %s: must be a directory of root's that nobody else can write to", dir)
	}
	if st.Mode&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, fmt.Errorf("close state directory to others: %w", err)
		}
	}
	s := &state{dir: dir}
	id, err := readOrMake(filepath.Join(dir, "host-id"), 16)
	if err != nil {
		return nil, err
	}
	copy(s.hostID[:], id)
	if s.secret, err = readOrMake(filepath.Join(dir, "secret"), 32); err != nil {
		return nil, err
	}
	return s, nil
}

// readOrMake gives the random bytes kept in a file, made at the first start. A file of another length was cut by a crash
// before anybody had used it.
func readOrMake(path string, length int) ([]byte, error) {
	value, err := os.ReadFile(path)
	if err == nil && len(value) == length {
		return value, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read state: %w", err)
	}
	value = make([]byte, length)
	if _, err := rand.Read(value); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	_, err = f.Write(value)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return value, nil
}
