package identity

import (
	"fmt"
	"hash/maphash"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// view is the question whether the host, in its own mount namespace, sees a file at a path.
type view struct {
	path uint64 // its hash, with a seed that nobody knows
	file capture.FileKey
}

func (t *Table) viewOf(p *capture.Process) view {
	return view{maphash.String(t.seed, string(p.Path.Value)), p.File}
}

// sight is the answer to a view.
type sight int

const (
	asked sight = iota + 1 // and not answered yet
	elsewhere
	seen
)

// views are the answers, in two halves: when the new one is full, it becomes the old one, which is forgotten. So the memory
// is the same however often that happens.
type views struct {
	now, before map[view]sight
}

// maxViews bounds one half.
const maxViews = 4096

func newViews() views { return views{now: map[view]sight{}} }

func (v *views) find(at view) sight {
	if s := v.now[at]; s != 0 {
		return s
	}
	return v.before[at]
}

// set keeps an answer and returns how many it forgets for that.
func (v *views) set(at view, s sight) int {
	forgotten := 0
	if len(v.now) >= maxViews {
		forgotten = len(v.before)
		v.before, v.now = v.now, map[view]sight{}
	}
	v.now[at] = s
	return forgotten
}

// ask has a worker look whether the host sees what a process in another mount namespace runs. Until there is an answer
// the path has a scope.
func (t *Table) ask(p *capture.Process) {
	v := t.viewOf(p)
	if p.Kernel || t.atHome(p) || t.views.find(v) != 0 {
		return
	}
	if t.workers.open(openRequest{path: string(p.Path.Value), file: p.File, view: v}) {
		t.counters.ViewsEvicted += uint64(t.views.set(v, asked))
	}
}

// looked takes the worker's answer.
func (t *Table) looked(v view, sees bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.views.find(v) != asked {
		return
	}
	answer := elsewhere
	if sees {
		answer = seen
	}
	t.counters.ViewsEvicted += uint64(t.views.set(v, answer))
}

// atHome tells whether the path of what a process runs is of the host's mount namespace: there it means what it says.
func (t *Table) atHome(p *capture.Process) bool { return t.isHost(pathNS(p)) }

func (t *Table) isHost(namespace uint32) bool {
	return namespace == t.options.HostMountNS || namespace == 0
}

// pathNS is the mount namespace that a path is of. It need not be the process's: anybody can execute a file that another
// process of his sees, by /proc/PID/root or a descriptor.
func pathNS(p *capture.Process) uint32 {
	if p.PathNS != 0 {
		return p.PathNS
	}
	return p.MountNS
}

// scope says where a process's path means something. It is "" only if the host itself sees this very file at the path: in
// a namespace of their own, users mount what they like over /usr/bin/curl, also a file that has run under its own name.
func (t *Table) scope(p *capture.Process) string {
	if t.atHome(p) || t.views.find(t.viewOf(p)) == seen {
		return ""
	}
	if p.PathNS == capture.PathUnmounted {
		return "mntns:none"
	}
	return fmt.Sprintf("mntns:%d", pathNS(p))
}

// hostSees looks.
func (t *Table) hostSees(path string, file capture.FileKey) bool {
	if !t.reach(path) {
		return false
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return t.compare(fd, file) == same
}
