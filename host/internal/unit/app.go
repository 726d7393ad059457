package unit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxFlatpakInfo = 16 << 10
	maxMountinfo   = 1 << 20
	resolveCached  = 0x20 // RESOLVE_CACHED of openat2(2), Linux 5.12
)

// app tells what a process in a mount namespace of its own says to be. Any user can make such a namespace, so it is a
// claim in every case.
func (f *Finder) app(facts Facts) (m mark, source string) {
	if f.options.HostMountNS == 0 || facts.MountNS == 0 || facts.MountNS == f.options.HostMountNS {
		return mark{}, ""
	}
	if rest, is := strings.CutPrefix(facts.Exe, "/snap/"); is {
		if snap, _, more := strings.Cut(rest, "/"); more && plain(snap) != "" {
			return mark{runtime: runtimeSnap, id: snap}, "path"
		}
	}
	info, err := f.flatpakInfo(facts)
	if err != nil {
		return mark{}, ""
	}
	if id := applicationID(info); id != "" {
		return mark{runtime: runtimeFlatpak, id: id}, "flatpak-info"
	}
	return mark{}, ""
}

// flatpakInfo reads /.flatpak-info inside a sandbox. A user may have put a file system of his own there, whose files take
// for ever to read: nothing is touched that the kernel does not have at hand (RESOLVE_CACHED, which costs nothing: that
// Flatpak mounted the file keeps it there), and the file is read only from file systems that are no process's.
func (f *Finder) flatpakInfo(facts Facts) ([]byte, error) {
	proc := filepath.Join(f.options.ProcRoot, strconv.FormatUint(uint64(facts.Pid), 10))
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s/root: %w", proc, err)
	}
	defer unix.Close(root)
	place, err := unix.Openat2(root, ".flatpak-info", &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS |
			resolveCached,
	})
	if err != nil {
		return nil, fmt.Errorf("open .flatpak-info: %w", err)
	}
	defer unix.Close(place)
	if kind := f.fileSystem(proc, place); !isLocal(kind) {
		return nil, fmt.Errorf("read .flatpak-info: on a file system of kind %q: %w", kind, unix.EPERM)
	}
	if !isInstance(proc, facts.Start) {
		return nil, unix.ESRCH
	}
	return readPlace(place)
}

// readPlace reads the regular file behind a descriptor that was opened with O_PATH.
func readPlace(place int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(place, &st); err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxFlatpakInfo {
		return nil, errRefused
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", place), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	file := os.NewFile(uintptr(fd), ".flatpak-info")
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFlatpakInfo))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return data, nil
}

// fileSystem is the kind of file system behind a descriptor, as the process's mount table has it. Asking the file system
// itself could take for ever.
func (f *Finder) fileSystem(proc string, fd int) string {
	info, err := readBounded(fmt.Sprintf("/proc/self/fdinfo/%d", fd), 4096)
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(info, []byte("mnt_id:"))
	id, _, _ := strings.Cut(strings.TrimSpace(string(rest)), "\n")
	table, err := readBounded(proc+"/mountinfo", maxMountinfo)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(table)) {
		if mount, rest, _ := strings.Cut(line, " "); mount == id {
			_, kind, _ := strings.Cut(rest, " - ")
			kind, _, _ = strings.Cut(kind, " ")
			return kind
		}
	}
	return ""
}

func isLocal(kind string) bool {
	switch kind {
	case "tmpfs", "ext4", "xfs", "btrfs":
		return true
	}
	return false
}

// applicationID is the value of name in the section [Application].
func applicationID(info []byte) string {
	inside := false
	for line := range strings.Lines(string(info)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[Application]"
		}
		if key, value, is := strings.Cut(line, "="); inside && is && strings.TrimSpace(key) == "name" {
			return plain(strings.TrimSpace(value))
		}
	}
	return ""
}
