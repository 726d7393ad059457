package process

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
)

// NewIDMap makes a user namespace that maps the owner on disk to uid and gid, for [NewMount]. A child holds it until it is
// open here. The caller closes it.
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
				UidMappings: []syscall.SysProcIDMap{{ContainerID: int(owner.UID), HostID: int(uid), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: int(owner.GID), HostID: int(gid), Size: 1}},
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
