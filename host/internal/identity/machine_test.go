package identity

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// machine is a /proc under the test's control and a clock.
type machine struct {
	t     *testing.T
	proc  string
	table *Table
	boot  int64
}

func newMachine(t *testing.T, change func(*Options)) *machine {
	t.Helper()
	m := &machine{t: t, proc: t.TempDir(), boot: int64(time.Hour)}
	o := Options{
		ProcRoot: m.proc, HostMountNS: mountNS,
		Now: func() capture.Moment { return capture.Moment{UTC: time.Now().UnixNano(), Boot: m.boot} },
	}
	if change != nil {
		change(&o)
	}
	m.table = New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.table.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return m
}

// program writes an executable that is old enough not to be racy.
func (m *machine) program(content string) string {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return path
}

func keyOfFile(t *testing.T, path string) capture.FileKey {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return capture.FileKey{Superblock: 7, Device: st.Dev, Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(st.Size)}
}

// exec has a process execute path, an hour after the file was written.
func (m *machine) exec(pid uint32, execID uint32, parent capture.Key, path string, arguments string) *capture.Process {
	m.t.Helper()
	dir := filepath.Join(m.proc, strconv.Itoa(int(pid)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(dir, "exe"))
	if err := os.Symlink(path, filepath.Join(dir, "exe")); err != nil {
		m.t.Fatal(err)
	}
	p := &capture.Process{
		Key: capture.Key{Tgid: pid, ExecID: execID, Start: int64(pid)}, Parent: parent, Name: "program",
		Attribution: wire.Attribution_ATTRIBUTION_KERNEL, Began: m.boot + int64(time.Hour), MountNS: mountNS,
		Path:      capture.Text{Value: capture.Bytes(path), Length: len(path)},
		Arguments: capture.Text{Value: capture.Bytes(arguments), Length: len(arguments)},
		File:      keyOfFile(m.t, path), UID: 1000,
	}
	m.table.Observe(p)
	return p
}

// gone removes a process from /proc.
func (m *machine) gone(p *capture.Process) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.proc, strconv.Itoa(int(p.Key.Tgid)))); err != nil {
		m.t.Fatal(err)
	}
	m.table.End(&capture.Exit{Key: p.Key, Time: m.boot})
}

// lineage waits for the hashes of a flow of p, as the pipeline does.
func (m *machine) lineage(p *capture.Process) Lineage {
	m.t.Helper()
	w := &capture.Window{Flows: []capture.Flow{{Process: p.Key}}}
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	m.table.Await(ctx, []capture.Key{p.Key})
	return m.table.Lineage(&w.Flows[0])
}

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return string(s[:])
}

func wantHash(t *testing.T, p *wire.Process, content string) {
	t.Helper()
	e := p.GetExecutable()
	if e.GetHashStatus() != wire.HashStatus_HASH_OK || string(e.GetSha256()) != sum(content) {
		t.Errorf("%s: status %v, sha256 %x, want %x", e.GetPath().GetValue(), e.GetHashStatus(), e.GetSha256(), sum(content))
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("condition not met in 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}
