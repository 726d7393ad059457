package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/marks"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// station is the real thing: the kernel's probes and marks, and a table that they feed.
type station struct {
	t      *testing.T
	source *capture.Kernel
	marks  *marks.Marks
	table  *Table
	events *events
}

// events are the executions seen, by pid.
type events struct {
	mu   sync.Mutex
	seen map[uint32][]*capture.Process
}

// with is the station for a test of its own.
func (s *station) with(t *testing.T) *station {
	own := *s
	own.t = t
	return &own
}

func newStation(t *testing.T) *station {
	t.Helper()
	need.Root(t, "load BPF programs")
	instance := fmt.Sprintf("test-%d-%s", os.Getpid(), t.Name())
	source, err := capture.Open(capture.Options{
		Instance: instance, Interval: time.Hour, RingPages: 256, Secret: make([]byte, 16), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := marks.Open(marks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &station{
		t: t, source: source, marks: m, events: &events{seen: map[uint32][]*capture.Process{}},
		table: New(Options{Now: capture.Now, KernelKey: source.FileKey, Ended: source.Ended, Follower: m}),
	}
	if err := m.Start(s.table); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.pump() }()
	t.Cleanup(func() { s.close(ended) })
	return s
}

func (s *station) close(ended chan error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := s.source.Close()
	select {
	case pumped := <-ended:
		err = errors.Join(err, pumped)
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	if err = errors.Join(err, s.marks.Close(ctx), s.table.Close(ctx)); err != nil {
		s.t.Error(err)
	}
}

// pump moves events until the source is closed.
func (s *station) pump() error {
	for {
		event, err := s.source.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *capture.Process:
			s.table.Observe(e)
			s.events.add(e)
		case *capture.Exit:
			s.table.End(e)
		case *capture.Window:
			if err := s.source.Release(e.Generation); err != nil {
				return err
			}
		}
	}
}

func (e *events) add(p *capture.Process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !p.Forked {
		e.seen[p.Key.Tgid] = append(e.seen[p.Key.Tgid], p)
	}
}

func (e *events) of(pid int) []*capture.Process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seen[uint32(pid)])
}

// executions waits until a process is known to have executed as many programs.
func (s *station) executions(pid, count int) []*capture.Process {
	s.t.Helper()
	var all []*capture.Process
	waitFor(s.t, func() bool {
		all = s.events.of(pid)
		return len(all) >= count
	})
	return all
}

// executable is what the rows of an execution would say of its program.
func (s *station) executable(p *capture.Process) *wire.Executable {
	s.t.Helper()
	return s.lineage(p).Process.GetExecutable()
}

func (s *station) lineage(p *capture.Process) Lineage {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	s.table.Await(ctx, []capture.Key{p.Key})
	return s.table.LineageOf(p.Key)
}

// want checks the hash of the last program that a process executed. Files here are so young that some hashes are marked.
func (s *station) want(pid int, content []byte) *wire.Executable {
	s.t.Helper()
	all := s.executions(pid, 1)
	e := s.executable(all[len(all)-1])
	switch e.GetHashStatus() {
	case wire.HashStatus_HASH_OK, wire.HashStatus_HASH_RACY, wire.HashStatus_HASH_AS_SERVED:
	default:
		s.t.Errorf("%s: %v", e.GetPath().GetValue(), e.GetHashStatus())
	}
	if sum := sha256.Sum256(content); !bytes.Equal(e.GetSha256(), sum[:]) {
		s.t.Errorf("%s: sha256 %x, want %x (%v)", e.GetPath().GetValue(), e.GetSha256(), sum, e.GetHashStatus())
	}
	return e
}

// begin starts a program. While another test forks, its child may for a moment hold the descriptor that the program was
// written through; then the kernel does not execute it.
func begin(t *testing.T, path string, attributes *syscall.SysProcAttr, arguments ...string) *exec.Cmd {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		cmd := exec.Command(path, arguments...)
		cmd.SysProcAttr = attributes
		err := cmd.Start()
		if err == nil {
			return cmd
		}
		if !errors.Is(err, syscall.ETXTBSY) || time.Now().After(deadline) {
			t.Errorf("%s: %v", path, err)
			runtime.Goexit()
		}
	}
}

// run executes a program to its end and returns its pid.
func run(t *testing.T, path string, arguments ...string) int {
	t.Helper()
	cmd := begin(t, path, nil, arguments...)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return cmd.Process.Pid
}

// stay executes a program that runs until the test ends.
func stay(t *testing.T, path string, attributes *syscall.SysProcAttr) int {
	t.Helper()
	cmd := begin(t, path, attributes)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// write makes a program that nobody has executed before, and old enough not to be racy.
func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * racy)
	return path
}

// quick is a program that ends at once; tag makes its content its own.
func quick(tag string) []byte {
	if runtime.GOARCH == "arm64" {
		return program(tag, "a80b80d2000080d2010000d4")
	}
	return program(tag, "b83c00000031ff0f05")
}

// lasting is a program that waits for ever.
func lasting(tag string) []byte {
	if runtime.GOARCH == "arm64" {
		return program(tag, "000080d2010080d2020080d2030080d2280980d2010000d4faffff17")
	}
	return program(tag, "b8220000000f05ebf7")
}

// program is a static executable of one segment: header, code, tag.
func program(tag, code string) []byte {
	const base, header = 0x400000, 64 + 56
	var machine uint16 = 62
	if runtime.GOARCH == "arm64" {
		machine = 183
	}
	var text []byte
	for i := 0; i < len(code); i += 2 {
		b, _ := strconv.ParseUint(code[i:i+2], 16, 8)
		text = append(text, byte(b))
	}
	text = append(append(text, 0), tag...)
	size := uint64(header + len(text))
	var out bytes.Buffer
	out.WriteString("\x7fELF\x02\x01\x01" + string(make([]byte, 9)))
	for _, field := range []any{
		uint16(2), machine, uint32(1), uint64(base + header), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56),
		uint16(1), uint16(0), uint16(0), uint16(0), // the file; what follows is its segment
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096),
	} {
		_ = binary.Write(&out, binary.LittleEndian, field)
	}
	out.Write(text)
	return out.Bytes()
}

// public is a directory that every user may enter.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "identity-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mount mounts something for the time of the test.
func mount(t *testing.T, source, kind, options string) string {
	t.Helper()
	dir := public(t)
	if err := unix.Mount(source, dir, kind, 0, options); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
