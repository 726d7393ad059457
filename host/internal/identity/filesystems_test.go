package identity

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/marks"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// mounted waits until the table knows of a mount.
func (s *station) mounted(point string) {
	s.t.Helper()
	waitFor(s.t, func() bool {
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		return slices.ContainsFunc(s.table.systems.table, func(m marks.Mount) bool { return m.Point == point })
	})
}

// checkPrograms runs a program that ends at once and one that lasts, and checks their hashes.
func (s *station) checkPrograms(t *testing.T, dir, tag string, status wire.HashStatus) {
	t.Helper()
	short := s.want(run(t, filepath.Join(dir, "quick")), quick(tag))
	long := s.want(stay(t, filepath.Join(dir, "lasting"), nil), lasting(tag))
	for _, e := range []*wire.Executable{short, long} {
		if e.GetHashStatus() != status || e.GetScope() != "" {
			t.Errorf("%s: %v, scope %q", e.GetPath().GetValue(), e.GetHashStatus(), e.GetScope())
		}
	}
}

func writePrograms(t *testing.T, dir, tag string) {
	t.Helper()
	for name, content := range map[string][]byte{"quick": quick(tag), "lasting": lasting(tag)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * racy)
}

func overlayIsHashedThoughStatNamesItsFilesOtherwise(t *testing.T, s *station) {
	// Layers on two file systems, as containers have them: there the kernel's inode is not stat's.
	lower, upper := mount(t, "tmpfs", "tmpfs", ""), mount(t, "tmpfs", "tmpfs", "")
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upper, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writePrograms(t, lower, "overlay")
	dir := mount(t, "overlay", "overlay", fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, upper, upper))
	s.mounted(dir)
	s.checkPrograms(t, dir, "overlay", wire.HashStatus_HASH_OK)
}

func btrfsSubvolumeIsHashedThoughStatNamesItsDeviceOtherwise(t *testing.T, s *station) {
	dir := mountImage(t, "mkfs.btrfs", "btrfs", func(image string) *exec.Cmd {
		if err := os.Truncate(image, 256<<20); err != nil {
			t.Fatal(err)
		}
		return exec.Command("mkfs.btrfs", "-q", image)
	})
	s.mounted(dir)
	volume := filepath.Join(dir, "volume")
	if out, err := exec.Command("btrfs", "subvolume", "create", volume).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	writePrograms(t, volume, "btrfs")
	s.checkPrograms(t, volume, "btrfs", wire.HashStatus_HASH_OK)
}

func twoSquashfsImagesWithTheSameNumbersDoNotShareAHash(t *testing.T, s *station) {
	for _, tag := range []string{"squash1", "squash2"} {
		content := t.TempDir()
		writePrograms(t, content, tag)
		dir := mountImage(t, "mksquashfs", "squashfs", func(image string) *exec.Cmd {
			return exec.Command("mksquashfs", content, image, "-noappend", "-quiet", "-all-time", "1700000000", "-mkfs-time", "1700000000")
		})
		s.want(run(t, filepath.Join(dir, "quick")), quick(tag))
		waitFor(t, func() bool { return unix.Unmount(dir, 0) == nil })
	}
}

// mountImage makes a file system in a file and mounts it.
func mountImage(t *testing.T, tool, kind string, make func(image string) *exec.Cmd) string {
	t.Helper()
	need.Program(t, tool)
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := make(image).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", tool, err, out)
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func fileSystemOfAnotherMountNamespaceIsHashedAtFirstSightAndNamedSo(t *testing.T, s *station) {
	dir := public(t)
	programs := t.TempDir()
	for i := range 20 {
		write(t, programs, strconv.Itoa(i), quick("namespace "+strconv.Itoa(i)))
	}
	// Each program is gone soon after it has ended; the first of them is what makes the namespace known.
	script := fmt.Sprintf(`mount -t tmpfs inside %[1]s && cp %[2]s/* %[1]s && %[1]s/0 && sleep 1 &&
		for i in $(seq 1 19); do %[1]s/$i & echo $!; wait; sleep 0.1; rm %[1]s/$i; done`, dir, programs)
	out, err := exec.Command("unshare", "-m", "sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(out))
	if len(pids) != 19 {
		t.Fatalf("pids %q", out)
	}
	for i, text := range pids {
		pid, _ := strconv.Atoi(text)
		e := s.want(pid, quick("namespace "+strconv.Itoa(i+1)))
		if !strings.HasPrefix(e.GetScope(), "mntns:") {
			t.Errorf("%s: scope %q", e.GetPath().GetValue(), e.GetScope())
		}
	}
}

func programMountedOverAnotherInANamespaceDoesNotPassForIt(t *testing.T, s *station) {
	dir := public(t)
	evil, good := write(t, dir, "evil", quick("evil")), write(t, dir, "curl", quick("curl"))
	s.want(run(t, good), quick("curl"))
	cmd := exec.Command("unshare", "-Urm", "sh", "-c", fmt.Sprintf("mount --bind %s %s && exec %s", evil, good, good))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.executions(cmd.Process.Pid, 3) // unshare, sh, and what passes for curl
	e := s.want(cmd.Process.Pid, quick("evil"))
	if !strings.HasPrefix(e.GetScope(), "mntns:") || string(e.GetPath().GetValue()) != good {
		t.Errorf("path %q, scope %q", e.GetPath().GetValue(), e.GetScope())
	}
}
