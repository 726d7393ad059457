package helper

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case Verb:
			os.Exit(Main(os.Args[2:]))
		case fuseVerb:
			fmt.Fprintln(os.Stderr, serveFUSE(os.Args[2:]))
			os.Exit(1)
		case confinedVerb:
			os.Exit(tryForbidden(os.Args[2:]))
		case holderVerb:
			os.Exit(holdHelper(os.Args[2]))
		}
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newPool makes a pool that is closed at the test's end.
func newPool(t *testing.T, o Options) *Pool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("acting as another user needs root: run the tests with sudo")
	}
	o.MemoryMB = memoryMB
	p, err := New(o)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(t, p.Close(ctx))
	})
	return p
}

// place makes a directory that everybody may enter.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "picosnitch-helper-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// write makes a file of uid with the mode.
func write(t *testing.T, path, content string, uid int, mode fs.FileMode) string {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), mode))
	must(t, os.Chmod(path, mode))
	must(t, os.Chown(path, uid, uid))
	return path
}

const limitBytes = 64 << 20

func request(uid int, path string) HashRequest {
	return HashRequest{Path: path, UID: uint32(uid), GID: uint32(uid), MaxBytes: limitBytes}
}

// sleeper makes a program that sleeps and whose bytes no other has.
func sleeper(t *testing.T) (path string, sum [32]byte) {
	t.Helper()
	program, err := os.ReadFile("/bin/sleep")
	must(t, err)
	program = append(program, t.Name()...)
	path = filepath.Join(place(t), "sleeper")
	must(t, os.WriteFile(path, program, 0o755))
	return path, sha256.Sum256(program)
}

// run starts a program as uid.
func run(t *testing.T, uid int, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, "600")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	must(t, cmd.Start())
	t.Cleanup(func() { end(cmd) })
	return cmd
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
