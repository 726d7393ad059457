package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
)

// Free space below which a disk is worth a word, and below which it is a problem.
const (
	lowSpace = 1 << 30
	noSpace  = 64 << 20
)

// Disk is the file system of one of the directories.
type Disk struct {
	Of       string `json:"of"` // "state" or "configuration"
	Path     string `json:"path"`
	Exists   bool   `json:"exists"` // else the figures are those of the directory it would be made in
	Free     uint64 `json:"free"`   // bytes, for anybody
	Total    uint64 `json:"total"`  // bytes
	ReadOnly bool   `json:"read_only"`
	Error    string `json:"error,omitempty"`
}

func lookDisk(of, path string) Disk {
	d := Disk{Of: of, Path: sdk.EscapeString(path)}
	at := path
	var st unix.Statfs_t
	err := unix.Statfs(at, &st)
	d.Exists = err == nil
	for errors.Is(err, unix.ENOENT) && at != "/" {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		d.Error = saidError(fmt.Errorf("look at %s: %w", at, err))
		return d
	}
	unit := uint64(st.Bsize)
	d.Free, d.Total, d.ReadOnly = st.Bavail*unit, st.Blocks*unit, st.Flags&unix.ST_RDONLY != 0
	return d
}

func judgeDisks(f Facts) []Finding {
	var findings []Finding
	for _, d := range f.Disks {
		findings = append(findings, judgeDisk(d))
	}
	return findings
}

func judgeDisk(d Disk) Finding {
	const about = "disk"
	says := fmt.Sprintf("%s of the %s directory %s free", bytesText(d.Free), d.Of, d.Path)
	const room = "make room: a full disk keeps rows in the kernel, where only so many fit"
	switch {
	case d.Error != "":
		return warning(about, fmt.Sprintf("cannot tell about the %s directory: %s", d.Of, d.Error), "sudo picosnitch doctor")
	case d.ReadOnly:
		return problem(about, fmt.Sprintf("the %s directory %s lies on a file system that is read-only", d.Of, d.Path), "mount it for writing, or name another directory")
	case d.Free < noSpace:
		return problem(about, "only "+says, room)
	case d.Free < lowSpace:
		return warning(about, "only "+says, room)
	}
	return ok(about, says)
}

// Journal is the file that rows wait in until every sink has them.
type Journal struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	Bytes  int64  `json:"bytes"`
	// Reserve says that the space is kept beside it that makes room once the disk is full.
	Reserve bool   `json:"reserve"`
	Error   string `json:"error,omitempty"`
}

func lookJournal(stateDir string) Journal {
	path := filepath.Join(stateDir, journal.FileName)
	j := Journal{Path: sdk.EscapeString(path), Reserve: journal.Reserved(stateDir)}
	info, err := os.Lstat(path)
	switch {
	case err == nil:
		j.Exists, j.Bytes = true, info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		j.Error = saidError(err)
	}
	return j
}

func judgeJournal(f Facts) []Finding {
	switch j := f.Journal; {
	case j.Error != "" && f.Privileges.UID != 0:
		return []Finding{ok("journal", "cannot be looked at without root")}
	case j.Error != "":
		return []Finding{problem("journal", "cannot be looked at: "+j.Error, "see what is wrong with the state directory")}
	case !j.Exists:
		return []Finding{ok("journal", j.Path+" does not exist yet")}
	case !j.Reserve:
		return []Finding{warning("journal", fmt.Sprintf("%s has no %s beside it, with which it makes room once the disk is full",
			j.Path, journal.ReserveName), "make room in the state directory")}
	default:
		return []Finding{ok("journal", fmt.Sprintf("%s, %s", j.Path, bytesText(uint64(j.Bytes))))}
	}
}
