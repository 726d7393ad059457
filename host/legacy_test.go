package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/home"
)

func TestFilesOf103AreSetAsideForTheirPlugins(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{"DB sql log": false, `+sqliteAlone+`}`)
	c := d.settings.ConfigDir
	for name, content := range map[string]string{"snitch.db": "old rows", "snitch.db-wal": "old log", "conn.log": "old lines"} {
		if err := os.WriteFile(filepath.Join(c, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.reload()
	if _, err := os.Lstat(filepath.Join(c, "snitch-1.0.3.db")); err == nil {
		t.Error("moved although no plugin takes it")
	}
	writeConfig(t, d, `{"DB text log": true, `+sqliteAlone+`}`)
	d.reload()
	for path, want := range map[string]string{
		"sqlite/snitch-1.0.3.db": "old rows", "sqlite/snitch-1.0.3.db-wal": "old log", "snitch-1.0.3.db": "old rows", "conn-1.0.3.log": "old lines",
	} {
		if got, err := os.ReadFile(filepath.Join(c, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for link, want := range map[string]string{"snitch.db": "sqlite/snitch.db", "conn.log": "textlog/conn.log", "snitch-1.0.3.db": "sqlite/snitch-1.0.3.db"} {
		if got, err := os.Readlink(filepath.Join(c, link)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v", link, got, err)
		}
	}
	if s := d.complaints(); s != "" {
		t.Errorf("complaints %q", s)
	}
	if _, remarks := d.inForce.messages(); len(remarks) != 2 || !strings.Contains(strings.Join(remarks, "\n"), "set aside as conn-1.0.3.log") {
		t.Errorf("remarks %q", remarks)
	}
}

func TestAFileThatIsOpenIsNotMoved(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{"DB sql log": false, `+sqliteAlone+`}`)
	path := filepath.Join(d.settings.ConfigDir, "conn.log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := plugFiles()[1].link(d.dir); err == nil || !strings.Contains(err.Error(), errInUse.Error()) {
		t.Errorf("link: %v", err)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("conn.log: %v, %v", info, err)
	}
}

func TestALookForOpenFilesAsksNobodyWhoMayNotAnswer(t *testing.T) {
	t.Parallel()
	needRoot(t)
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeServer := sync.OnceFunc(func() { _ = unix.Close(server) }) // ends whatever waits for an answer
	defer closeServer()
	dir := t.TempDir()
	if err := unix.Mount("picosnitch-test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	root, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(root) }()
	done := make(chan error, 1)
	go func() {
		_, err := openedByAnyone(home.Info{Device: 1, Inode: 1}) // the number of a FUSE's root, too
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		closeServer()
		<-done
		t.Error("it waits for a file system that does not answer")
	}
}
