package marks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of a mount table.
type Mount struct {
	ID       uint64 // never used again for another mount where the kernel can tell (6.8), else until it is unmounted
	Device   uint64 // of the file system as the kernel names it, which stat does not show on btrfs and overlayfs
	Point    string // where it is mounted, below the root of who reads the table
	Type     string // "ext4", "fuse.sshfs", …
	Readable uint32 // user who alone may read a FUSE file system; 0: anybody
	Group    uint32 // that user's
	Kind     Kind
}

// Kind says who answers for what a file system contains.
type Kind int

// Kinds of file systems.
const (
	Pseudo  Kind = iota // nothing can be executed there that is not elsewhere: proc, sysfs, …
	Local               // the kernel itself, from a device or from memory
	Served              // a user's program or a machine on the network: reading may block for ever, and give anything
	Stacked             // the kernel, from other file systems of any kind: overlayfs
)

// kindOf knows the file systems that cannot hold programs or that somebody else serves; whatever it does not know is
// taken for the kernel's own.
func kindOf(fsType string) Kind {
	base, _, _ := strings.Cut(fsType, ".")
	switch base {
	case "proc", "sysfs", "cgroup", "cgroup2", "cpuset", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "bpf",
		"pstore", "efivarfs", "configfs", "fusectl", "binfmt_misc", "autofs", "hugetlbfs", "rpc_pipefs", "nsfs", "selinuxfs",
		"smackfs", "resctrl", "nfsd", "xenfs":
		return Pseudo
	case "fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "coda", "virtiofs", "lustre", "gfs2",
		"ocfs2", "orangefs", "glusterfs", "vboxsf", "vmhgfs", "prl_fs", "davfs", "ncpfs", "beegfs":
		return Served
	case "overlay", "ecryptfs", "aufs", "unionfs", "shiftfs":
		return Stacked
	}
	return Local
}

// mountTable is an open mount table; the kernel tells when it changes.
type mountTable struct{ fd int }

func openTable(path string) (*mountTable, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open mount table %s: %w", path, err)
	}
	return &mountTable{fd: fd}, nil
}

func (t *mountTable) close() { _ = unix.Close(t.fd) }

// maxTable bounds a mount table: 100,000 mounts are allowed, lines are about 100 bytes.
const maxTable = 32 << 20

func (t *mountTable) read() ([]Mount, error) {
	if _, err := unix.Seek(t.fd, 0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	var all []byte
	for buffer := make([]byte, 64<<10); ; {
		n, err := unix.Read(t.fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read mount table: %w", err)
		}
		if n == 0 {
			return ParseTable(all), nil
		}
		if all = append(all, buffer[:n]...); len(all) > maxTable {
			return nil, fmt.Errorf("read mount table: larger than %d bytes", maxTable)
		}
	}
}

// ParseTable reads what /proc/PID/mountinfo holds. It leaves lines out that are not as proc_pid_mountinfo(5) says.
func ParseTable(raw []byte) []Mount {
	var mounts []Mount
	for line := range bytes.Lines(raw) {
		if m, ok := parseMount(string(line)); ok {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// parseMount reads "36 35 98:0 /root /point options optional… - type source super-options".
func parseMount(line string) (Mount, bool) {
	before, after, found := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !found || len(left) < 6 || len(right) < 1 {
		return Mount{}, false
	}
	major, minor, found := strings.Cut(left[2], ":")
	id, errID := strconv.ParseUint(left[0], 10, 64)
	ma, errMajor := strconv.ParseUint(major, 10, 32)
	mi, errMinor := strconv.ParseUint(minor, 10, 32)
	if !found || errors.Join(errID, errMajor, errMinor) != nil {
		return Mount{}, false
	}
	m := Mount{
		ID: id, Device: unix.Mkdev(uint32(ma), uint32(mi)), Point: unescape(left[4]), Type: right[0], Kind: kindOf(right[0]),
	}
	if m.Kind == Served {
		m.Readable, m.Group = ownerOf(right[len(right)-1])
	}
	return m, true
}

// ownerOf finds user and group of who mounted a FUSE file system, unless others may read it too.
func ownerOf(superOptions string) (user, group uint32) {
	for option := range strings.SplitSeq(superOptions, ",") {
		if option == "allow_other" {
			return 0, 0
		}
		name, value, _ := strings.Cut(option, "=")
		id, _ := strconv.ParseUint(value, 10, 32)
		switch name {
		case "user_id":
			user = uint32(id)
		case "group_id":
			group = uint32(id)
		}
	}
	return user, group
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if code, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// below tells whether path lies at or below point.
func below(path, point string) bool {
	return path == point || point == "/" || strings.HasPrefix(path, point+"/")
}

// Reaches tells whether the way from the root to path can be walked without asking a file system of these kinds: the
// mounts on the way, the last one included.
func Reaches(mounts []Mount, path string, unsafe ...Kind) bool {
	for _, m := range mounts {
		if !below(path, m.Point) {
			continue
		}
		if slices.Contains(unsafe, m.Kind) {
			return false
		}
	}
	return true
}

// namespaceOf gives the inode of a namespace of a process, 0 if it is gone.
func namespaceOf(procRoot string, pid uint32, kind string) uint32 {
	target, err := os.Readlink(fmt.Sprintf("%s/%d/ns/%s", procRoot, pid, kind))
	if err != nil {
		return 0
	}
	_, number, _ := strings.Cut(strings.TrimSuffix(target, "]"), "[")
	inode, _ := strconv.ParseUint(number, 10, 32)
	return uint32(inode)
}
