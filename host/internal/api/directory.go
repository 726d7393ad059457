package api

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SocketName is the socket's name in the run directory.
const SocketName = "host.sock"

// maxSocketPath is what fits in a sockaddr_un, which ends with a zero byte.
const maxSocketPath = 107

// MakeRunDir makes the run directory, and what is missing above it, with mode 0755. One that is there already keeps its
// mode; it must belong to the caller, and nobody else may be able to write to it: whoever can may put another socket in
// the place of ours.
func MakeRunDir(dir string) error {
	var st unix.Stat_t
	err := unix.Lstat(dir, &st)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make run directory: %w", err)
		}
		if err := os.Chmod(dir, 0o755); err != nil { // the umask may be a strict one
			return fmt.Errorf("open run directory to clients: %w", err)
		}
		err = unix.Lstat(dir, &st)
	}
	if err != nil {
		return fmt.Errorf("look at run directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("run directory %s: is no directory; name another with --run-dir", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("run directory %s: belongs to uid %d, not to uid %d; name another with --run-dir", dir, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("run directory %s: others can write to it; chmod 755 it, or name another with --run-dir", dir)
	}
	return nil
}

// socketPath is where the socket of a run directory lies.
func socketPath(runDir string) (string, error) {
	path := filepath.Join(runDir, SocketName)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket %s: %d bytes, a socket's path has at most %d; name a shorter --run-dir", path, len(path), maxSocketPath)
	}
	return path, nil
}
