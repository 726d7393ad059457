package unit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// TestAFileSystemThatNeverAnswersIsNotAsked has a sandbox whose root, or whose /.flatpak-info, belongs to a FUSE server
// that answers nothing.
func TestAFileSystemThatNeverAnswersIsNotAsked(t *testing.T) {
	need.Root(t, "mount a file system")
	for name, c := range map[string]struct {
		mode uint32
		at   string
	}{
		"root": {unix.S_IFDIR, "sandbox"}, "file": {unix.S_IFREG, "sandbox/.flatpak-info"},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			write(t, filepath.Join(proc, "sandbox/.flatpak-info"), "[Application]\nname=org.example.Web\n")
			link(t, filepath.Join(proc, "sandbox"), filepath.Join(proc, "77/root"))
			link(t, "/proc/self/mountinfo", filepath.Join(proc, "77/mountinfo"))
			f := New(Options{ProcRoot: proc, HostMountNS: 1})
			facts := Facts{Pid: 77, UID: 1000, MountNS: 2}
			want := unitOf("flatpak", "user 1000: org.example.Web", "", false)
			want.Source = "flatpak-info"
			check(t, f.Find("/", facts), want)

			abort := mountSilence(t, filepath.Join(proc, c.at), c.mode)
			done := make(chan struct{})
			go func() {
				defer close(done)
				check(t, f.Find("/", facts), nil)
			}()
			select {
			case <-done:
			case <-time.After(5 * time.Second):
				abort()
				<-done
				t.Error("waited for it")
			}
		})
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// mountSilence mounts a FUSE file system that answers no request until abort is called, at the latest after the test.
func mountSilence(t *testing.T, at string, mode uint32) (abort func()) {
	t.Helper()
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	need.Have(t, fmt.Sprintf("FUSE: %v", err), err == nil)
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other", server.Fd(), mode)
	if err := unix.Mount("silence", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		server.Close()
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		server.Close()
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", at, err)
		}
	})
	return func() { server.Close() }
}
