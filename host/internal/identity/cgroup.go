package identity

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Cgroups finds the paths of cgroups. It remembers them, so that a cgroup that has gone since is still named.
type Cgroups struct {
	root  string
	mount int

	mu    sync.Mutex
	paths map[uint64]string
}

const (
	cgroupLimit       = 8192
	handleKernfs      = 0xfe // FILEID_KERNFS of the kernel
	maxCgroupPathRead = 4096
)

// OpenCgroups opens the cgroup v2 hierarchy that is mounted at root.
func OpenCgroups(root string) (*Cgroups, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup hierarchy %s: %w", root, err)
	}
	return &Cgroups{root: root, mount: fd, paths: map[uint64]string{}}, nil
}

// Path gives the path of a cgroup below the hierarchy's root ("/" for the root itself), "" if it is gone and was never
// asked for.
func (c *Cgroups) Path(id uint64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if path, known := c.paths[id]; known {
		return path
	}
	path := c.look(id)
	if path == "" {
		return ""
	}
	if len(c.paths) >= cgroupLimit {
		clear(c.paths)
	}
	c.paths[id] = path
	return path
}

func (c *Cgroups) look(id uint64) string {
	handle := unix.NewFileHandle(handleKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(c.mount, handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buffer := make([]byte, maxCgroupPathRead)
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), buffer)
	if err != nil {
		return ""
	}
	path := strings.TrimPrefix(string(buffer[:n]), c.root)
	if path == "" {
		return "/"
	}
	return path
}

// Close gives the hierarchy back.
func (c *Cgroups) Close() error { return os.NewSyscallError("close", unix.Close(c.mount)) }
