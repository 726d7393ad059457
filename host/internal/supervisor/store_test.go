package supervisor

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openStoreAsUser is `picosnitch query` with the daemon stopped.
func openStoreAsUser(directory string) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store, err := OpenStore(ctx, Spec{Name: "sqlite", Path: self, Directory: directory, MemoryMB: testMemoryMB, Config: []byte(`{"Probe":true}`)}, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	pages := 0
	err = store.Query(ctx, &wire.Query{}, func(*wire.QueryPage) error { pages++; return nil })
	fmt.Printf("%d pages as %d, %v, %v\n", pages, os.Getuid(), err, store.Close())
}

func TestOpenStoreWorksForAnyUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := tempDir(t, someone)
	program := filepath.Join(dir, "program")
	copyFile(t, selfPath(t), program)
	command := exec.Command(program, "open-store", dir)
	command.Dir = dir
	command.Env = []string{"PATH=/usr/bin:/bin"}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: someone.UID, Gid: someone.GID}}
	out, err := command.CombinedOutput()
	if want := fmt.Sprintf("3 pages as %d, <nil>, <nil>\n", someone.UID); err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	status, err := os.ReadFile(filepath.Join(dir, "probe.json"))
	if err != nil || !strings.Contains(string(status), `"NoNewPrivs":"1"`) {
		t.Errorf("the store saw %s, %v", status, err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
