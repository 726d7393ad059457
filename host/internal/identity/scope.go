package identity

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// view is the question whether the host, in its own mount namespace, sees a file at a path.
type view struct {
	path string
	file capture.FileKey
}

// maxViews bounds how many answers are kept.
const maxViews = 8192

// ask has a worker look whether the host sees what a process in another mount namespace runs. Until there is an answer
// the path has a scope.
func (t *Table) ask(p *capture.Process) {
	v := view{string(p.Path.Value), p.File}
	if _, known := t.views[v]; known || p.Kernel || t.atHome(p) {
		return
	}
	for old := range t.views {
		if len(t.views) < maxViews {
			break
		}
		delete(t.views, old)
	}
	t.views[v] = false
	if !t.workers.open(openRequest{path: v.path, file: v.file}) {
		delete(t.views, v)
	}
}

// looked takes the worker's answer.
func (t *Table) looked(v view, sees bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, wanted := t.views[v]; wanted {
		t.views[v] = sees
	}
}

// atHome tells whether a process lives in the host's mount namespace: there a path means what it says.
func (t *Table) atHome(p *capture.Process) bool {
	return p.MountNS == t.options.HostMountNS || p.MountNS == 0
}

// scope says where a process's path means something. It is "" only if the host itself sees this very file at the path: in
// a namespace of their own, users mount what they like over /usr/bin/curl, also a file that has run under its own name.
func (t *Table) scope(p *capture.Process) string {
	if t.atHome(p) || t.views[view{string(p.Path.Value), p.File}] {
		return ""
	}
	return fmt.Sprintf("mntns:%d", p.MountNS)
}

// hostSees looks.
func (t *Table) hostSees(path string, file capture.FileKey) bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return t.compare(fd, file) == same
}
