package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	lockFile       = "/run/picosnitch-lab.lock"
	dirPrefix      = "psl-"           // of the lab's directory; short, because unix socket paths are
	instancePrefix = "lab-"           // instances are called lab-<pid>-<n>
	pinPrefix      = "picosnitch-lab" // of pins and cgroups: picosnitch-<instance>
)

// lock keeps two labs from running at once: probes are machine-wide, and both would load the same two cores. It is
// released when the process ends, however it ends.
func lock(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return
	}
	t.Log("another lab is running, waiting for its end")
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return
		}
		if err != unix.EINTR {
			t.Fatalf("lock %s: %v", lockFile, err)
		}
	}
}

// removeLeftovers clears what labs left that were cut off: daemons, directories, pins, cgroups. Namespaces have no
// name and vanish by themselves. It runs under the lock, so whatever bears a lab's name is dead, or an orphan.
func removeLeftovers(t *testing.T) {
	t.Helper()
	for _, dir := range glob(filepath.Join(os.TempDir(), dirPrefix+"*")) {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), dirPrefix))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, file := range glob(filepath.Join(dir, "*", "pid")) {
			endOrphan(t, file, fmt.Sprintf("%s%d-", instancePrefix, pid))
		}
		unmountBelow(t, dir)
		remove(t, dir)
	}
	for _, parent := range instanceDirs() {
		for _, path := range glob(parent + pinPrefix + "*") {
			removePins(t, path)
		}
	}
}

// unmountBelow lets go of disks that a dead lab had mounted in its directory; their loop devices go with them.
func unmountBelow(t *testing.T, dir string) {
	t.Helper()
	points, err := MountsBelow(dir)
	if err != nil {
		t.Logf("left-over: %v", err)
	}
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Logf("left-over: unmount %s: %v", point, err)
		}
	}
}

// MountsBelow are the mount points in a directory, without itself.
func MountsBelow(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		const point = 4 // of the fields, see proc_pid_mountinfo(5)
		if fields := strings.Fields(line); len(fields) > point && strings.HasPrefix(fields[point], dir+"/") {
			points = append(points, fields[point])
		}
	}
	return points, nil
}

// instanceDirs are the patterns, with a final slash, below which an instance may keep a directory called
// picosnitch-<instance>: bpffs, and cgroups of either version.
func instanceDirs() []string {
	return []string{"/sys/fs/bpf/", "/sys/fs/cgroup/", "/sys/fs/cgroup/*/"}
}

// endOrphan ends a daemon that a dead lab started: the process whose id the lab wrote down, if its command line still
// names that lab's instance.
func endOrphan(t *testing.T, file, instance string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(line), instance) {
		return
	}
	t.Logf("ending daemon %d of a dead lab", pid)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Logf("kill %d: %v", pid, err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Logf("left-over: %v", err)
	}
}

// removePins removes a tree in which files cannot be unlinked (cgroupfs) or may be (bpffs): directories last.
func removePins(t *testing.T, path string) {
	t.Helper()
	var dirs []string
	_ = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // gone already
		case d.IsDir():
			dirs = append(dirs, p)
		default:
			_ = os.Remove(p)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil {
			t.Logf("left-over: %v", err)
		}
	}
}

func glob(pattern string) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil // only a bad pattern, and ours are constants
	}
	return found
}

// writeExecutable holds off every fork of this process while the file is open for writing: a child that inherits the
// descriptor for a moment would make execve fail with ETXTBSY.
func writeExecutable(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755)
}
