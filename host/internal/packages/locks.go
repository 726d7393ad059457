package packages

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLocks bounds what is read of the kernel's table, in bytes.
const maxLocks = 1 << 20

// locked tells whether a process holds a lock on the file name below root. It asks the kernel's table: a lock file may be
// unreadable for whoever asks.
func (o Options) locked(name string) bool {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(o.Root, name), &st); err != nil {
		return false
	}
	file, err := os.Open(o.Locks)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	table, err := io.ReadAll(io.LimitReader(file, maxLocks))
	if err != nil {
		return false
	}
	key := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, key) && strings.Contains(line, " WRITE ") {
			return true
		}
	}
	return false
}
