package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// bpffsDir is where capture keeps its pins; pinPrefix begins the name of an instance's directory there.
const (
	bpffsDir  = "/sys/fs/bpf"
	pinPrefix = "picosnitch-"
)

// Cgroup is the cgroup v2 hierarchy, which some hooks are attached to.
type Cgroup struct {
	Path  string `json:"path"`
	Error string `json:"error,omitempty"`
}

func lookCgroup() Cgroup {
	path, err := capture.CgroupRoot()
	return Cgroup{Path: said(path), Error: saidError(err)}
}

func judgeCgroup(f Facts) []Finding {
	if f.Cgroup.Error != "" {
		return []Finding{blocking("cgroup", f.Cgroup.Error,
			"mount it: mount -t cgroup2 none /sys/fs/cgroup (systemd does so; beside version 1, at /sys/fs/cgroup/unified)")}
	}
	return []Finding{ok("cgroup", "version 2 at "+f.Cgroup.Path)}
}

// BPFFS is the file system that keeps counters alive while no daemon runs.
type BPFFS struct {
	Path    string `json:"path"`
	Mounted bool   `json:"mounted"`
	UID     uint32 `json:"uid"`
	Mode    string `json:"mode"` // octal
	Error   string `json:"error,omitempty"`
}

func lookBPFFS(path string) BPFFS {
	b := BPFFS{Path: path}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		b.Error = saidError(err)
		return b
	}
	b.Mounted = fs.Type == unix.BPF_FS_MAGIC
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		b.Error = saidError(err)
		return b
	}
	b.UID, b.Mode = st.Uid, fmt.Sprintf("%04o", st.Mode&0o7777)
	return b
}

func judgeBPFFS(f Facts) []Finding {
	switch b := f.BPFFS; {
	case b.Error != "":
		return []Finding{blocking("bpffs", fmt.Sprintf("nothing can be pinned at %s: %s", b.Path, b.Error),
			"boot a kernel with CONFIG_BPF_SYSCALL=y; in a container, have /sys mounted")}
	case !b.Mounted:
		return []Finding{ok("bpffs", fmt.Sprintf("not mounted at %s yet: start does that", b.Path))}
	default:
		return []Finding{ok("bpffs", fmt.Sprintf("mounted at %s, of uid %d, mode %s", b.Path, b.UID, b.Mode))}
	}
}

// Pin is what an instance left in the BPF file system, or somebody in its name.
type Pin struct {
	Name string `json:"name"` // of the instance
	UID  uint32 `json:"uid"`
	Mode string `json:"mode"`
	Ours bool   `json:"ours"` // a directory that only root can use
	Kept bool   `json:"kept"` // it holds programs and counters; false without the right to look
}

// lookPins lists instances. Without the right to look there are none.
func lookPins(dir string) []Pin {
	pins := []Pin{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return pins
	}
	for _, e := range entries {
		name, found := strings.CutPrefix(e.Name(), pinPrefix)
		var st unix.Stat_t
		if !found || unix.Lstat(filepath.Join(dir, e.Name()), &st) != nil {
			continue
		}
		pins = append(pins, Pin{
			Name: said(name), UID: st.Uid, Mode: fmt.Sprintf("%04o", st.Mode&0o7777), Ours: st.Uid == 0 && st.Mode == unix.S_IFDIR|0o700,
			Kept: holdsVersion(filepath.Join(dir, e.Name())),
		})
	}
	return pins
}

// holdsVersion tells whether a directory of pins holds a version's: what a start that failed leaves does not.
func holdsVersion(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, os.DirEntry.IsDir)
}

func judgePins(f Facts) []Finding {
	var findings []Finding
	for _, p := range f.Pins {
		switch {
		case !p.Ours:
			findings = append(findings, warning("pins", fmt.Sprintf("%s%s belongs to uid %d, mode %s: made to be taken for picosnitch's",
				pinPrefix, p.Name, p.UID, p.Mode), "find out who made it, and remove it; it is never used"))
		case p.Kept && p.Name == f.Instance && f.Daemon != nil && !f.Daemon.Running:
			findings = append(findings, warning("pins", "the daemon of this instance ended without being stopped; the kernel counts on for ten minutes at most",
				"sudo picosnitch start: it takes over what was counted"))
		default:
			findings = append(findings, ok("pins", "instance "+p.Name))
		}
	}
	return findings
}
