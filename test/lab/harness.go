// Package lab is ground truth on a real kernel: generators move bytes and say what their own calls returned, the real
// daemon watches, and every row of its database is compared with what the generators said. Nothing is "about" right.
//
// A [Lab] is one run: binaries, a private directory, the machine-wide lock. A [Daemon] is one instance of picosnitch
// with directories, run directory, uids and pins of its own. A [Case] is one scenario: two network namespaces joined
// by a veth pair, copies of the generator with names and hashes of their own, and the rows that must appear.
//
// # Running
//
// As root: go test ./test/lab. It builds the daemon, or takes PICOSNITCH_BIN=bin/picosnitch with its plugins beside it
// (and LAB_GENERATOR, where there is no Go). LAB_SIZE=small is for slow guests, LAB_PATIENCE=20 multiplies their
// deadlines. LAB_KEEP=1 leaves the databases and logs to look at, in /tmp/psl-<pid>, until the next lab. With CI set,
// what the machine lacks fails instead of being skipped. A path that the kernel lacks is skipped by name, unless LAB_MUST
// names it. LAB_RESULTS=file gets a [Result] for each case.
//
// # Concurrency
//
// Cases run in parallel against one daemon; they share nothing but it. A Case and its Puppets belong to one goroutine,
// unless a method says otherwise.
package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/need"
)

const (
	// ownerUID and secondUID have no passwd entry; nothing else on the machine runs as them.
	ownerUID  = 51001
	secondUID = 51002
)

// Lab is one run of the lab.
type Lab struct {
	Dir       string // world-readable: generators of other users live here
	Generator string // the generator's binary, never run itself but copied
	Command   string // bin/picosnitch; empty when the lab runs without a daemon
	Self      Identity

	t         *testing.T
	instances atomic.Int64
	hashes    sync.Map // path → sha256
}

// New takes the machine-wide lock, removes what dead labs left and builds the binaries. Without daemon, only the
// generator is needed. Everything is undone when t ends.
func New(t *testing.T, daemon bool) *Lab {
	t.Helper()
	need.Root(t, "run the lab")
	lock(t)
	removeLeftovers(t)
	l := &Lab{t: t, Dir: fmt.Sprintf("%s/%s%d", os.TempDir(), dirPrefix, os.Getpid())}
	if err := os.Mkdir(l.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.Getenv("LAB_KEEP") == "" {
			_ = os.RemoveAll(l.Dir)
		}
	})
	l.Generator = filepath.Join(l.Dir, "generator")
	l.makeGenerator(t)
	if daemon {
		l.Command = l.binaries(t)
	}
	self, err := l.selfIdentity()
	if err != nil {
		t.Fatal(err)
	}
	l.Self = self
	return l
}

// makeGenerator takes the binary that LAB_GENERATOR names, where there is no Go to build one (a guest).
func (l *Lab) makeGenerator(t *testing.T) {
	t.Helper()
	path := os.Getenv("LAB_GENERATOR")
	if path == "" {
		build(t, l.Generator, "./test/lab/generator", "-ldflags=-s -w")
		return
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeExecutable(l.Generator, raw); err != nil {
		t.Fatal(err)
	}
}

// binaries is PICOSNITCH_BIN, or the host and the sqlite plugin built beside each other.
func (l *Lab) binaries(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PICOSNITCH_BIN"); path != "" {
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return absolute
	}
	command := filepath.Join(l.Dir, "bin", "picosnitch")
	build(t, command, "./host")
	build(t, filepath.Join(l.Dir, "bin", "plugins", "picosnitch-plugin-sqlite"), "./plugins/sqlite")
	return command
}

func build(t *testing.T, output, pkg string, flags ...string) {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/picosnitch/picosnitch").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", output}, flags...), pkg)...)
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
}

// Deadline bounds every wait: 30 s, times LAB_PATIENCE (20 in an emulated guest).
func Deadline() time.Duration {
	factor, err := strconv.Atoi(os.Getenv("LAB_PATIENCE"))
	if err != nil || factor < 1 {
		factor = 1
	}
	return time.Duration(factor) * 30 * time.Second
}

// Size is the knob of a case: full on the host, small in guests and when LAB_SIZE=small.
func Size(full, small int) int {
	if os.Getenv("LAB_SIZE") == "small" {
		return small
	}
	return full
}

// Copy makes an executable of its own name and hash for a role of a case.
func (l *Lab) Copy(path string) error {
	raw, err := os.ReadFile(l.Generator)
	if err != nil {
		return fmt.Errorf("read generator: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory of %s: %w", path, err)
	}
	if err := writeExecutable(path, append(raw, path...)); err != nil {
		return fmt.Errorf("write copy of generator: %w", err)
	}
	return nil
}

// hash gives the SHA-256 of a file that does not change while the lab runs.
func (l *Lab) hash(path string) (string, error) {
	if h, ok := l.hashes.Load(path); ok {
		return h.(string), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	l.hashes.Store(path, sum)
	return sum, nil
}

func (l *Lab) selfIdentity() (Identity, error) {
	exe, err := os.Executable()
	if err != nil {
		return Identity{}, fmt.Errorf("find own executable: %w", err)
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return Identity{}, fmt.Errorf("read own name: %w", err)
	}
	sum, err := l.hash(exe)
	return Identity{
		Exe: exe, SHA256: sum, Name: strings.TrimSuffix(string(name), "\n"), Cmdline: commandLine(os.Args),
	}, err
}
