package process

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
)

// NewIDMap makes a user namespace that maps the owner on disk to uid and gid, for [NewMount]; all others stay who they are.
// A child holds it until it is open here. The caller closes it.
func NewIDMap(thread *Thread, owner Owner, uid, gid uint32) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer func() { _ = r.Close() }()
	var child *os.Process
	thread.do(func() {
		child, err = os.StartProcess("/proc/self/exe", []string{"picosnitch", launch.Verb, launch.Hold}, &os.ProcAttr{
			Dir:   "/",
			Env:   []string{"GOMAXPROCS=1"},
			Files: []*os.File{r, nil, nil},
			Sys: &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				Pdeathsig:   syscall.SIGKILL,
				UidMappings: swap(owner.UID, uid),
				GidMappings: swap(owner.GID, gid),
			},
		})
	})
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	// Started means that the mappings are written: the child cannot be gone, it waits for our end of the pipe.
	space, err := os.Open("/proc/" + strconv.Itoa(child.Pid) + "/ns/user")
	_ = w.Close()
	_ = child.Kill()
	_, _ = child.Wait()
	if err != nil {
		return nil, fmt.Errorf("open the user namespace: %w", err)
	}
	return space, nil
}

// swap maps one id to another, and every id but these two to itself: the kernel refuses to write to a file, or to connect to
// a socket, whose owner is not mapped, whatever its mode allows (inode_permission, HAS_UNMAPPED_ID).
func swap(disk, shown uint32) []syscall.SysProcIDMap {
	const ids = 1<<32 - 1 // the last number is none
	maps := []syscall.SysProcIDMap{{ContainerID: int(disk), HostID: int(shown), Size: 1}}
	next := 0
	for _, end := range []int{int(min(disk, shown)), int(max(disk, shown)), ids} {
		if end > next {
			maps = append(maps, syscall.SysProcIDMap{ContainerID: next, HostID: next, Size: end - next})
		}
		next = end + 1
	}
	return maps
}
