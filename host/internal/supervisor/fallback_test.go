package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

func TestFileSystemWithoutIDMapsFallsBackAndSaysSo(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, c := range map[string]struct {
		owner process.Owner
		uids  UIDs
		want  string
	}{
		"a user's": {someone, slot(30), "NOT enforced: user of its own: it runs as uid 51900"},
		"root's":   {process.Owner{}, slot(31), "NOT enforced: files belong to uid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := tempDir(t, c.owner)
			// ramfs has no idmapped mounts.
			if err := unix.Mount("ram", config, "ramfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(config, unix.MNT_DETACH) })
			if err := os.Chown(config, int(c.owner.UID), int(c.owner.GID)); err != nil {
				t.Fatal(err)
			}
			r := run(t, c.uids, Spec{Name: "sink", Owner: c.owner, Directory: filepath.Join(config, "sink")})
			status := r.awaitState(StateRunning)
			if words := strings.Join(status.GetSandbox(), "\n"); !strings.Contains(words, c.want) {
				t.Errorf("%q is not said in:\n%s", c.want, words)
			}
			if status.GetUid() == 0 {
				t.Error("it runs as root")
			}
			r.feed.add(3)
			r.await("3 batches", func() bool { return len(r.rows()) == 3 })
		})
	}
}

func TestPluginMayRunAsTheOwner(t *testing.T) {
	t.Parallel()
	r := run(t, slot(32), Spec{Name: "notify", Owner: someone, AsOwner: true})
	if uid := r.awaitState(StateRunning).GetUid(); uid != someone.UID {
		t.Errorf("uid %d", uid)
	}
	if _, err := New(Options{RunDir: "/run"}, []Spec{{Name: "x", Directory: "/x", AsOwner: true}}); err == nil {
		t.Error("a plugin as root was taken")
	}
}

func TestFileOfTheOwnersIsRunOnlyAsTheOwner(t *testing.T) {
	t.Parallel()
	needRoot(t)
	program, err := os.ReadFile(selfPath(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t, someone), "mine")
	if err := errors.Join(os.WriteFile(path, program, 0o700), os.Chown(path, int(someone.UID), int(someone.GID))); err != nil {
		t.Fatal(err)
	}
	r := run(t, slot(66), Spec{Name: "mine", Path: path, Owner: someone, AsOwner: true}, Spec{Name: "other", Path: path, Owner: someone})
	r.await("one that runs, and one that does not", func() bool {
		s := r.Status()
		return s[0].GetState() == StateRunning && s[0].GetUid() == someone.UID && s[1].GetState() == StateBlocked
	})
	if e := r.Status()[1].GetLastError(); !strings.Contains(e, "is not trusted") {
		t.Errorf("error = %q", e)
	}
}
