package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/home"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func seenRecord(path, scope string, sum []byte) *wire.Record {
	return &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{Process: &wire.Process{Executable: &wire.Executable{
		Path: &wire.Text{Value: []byte(path)}, Scope: scope, Sha256: sum,
	}}}}}
}

func give(t *testing.T, d *daemon, sum []byte) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := d.OpenExecutable(t.Context(), sum, func(data []byte) error { out.Write(data); return nil })
	return out.String(), err
}

func TestAnExecutableIsGivenByItsHash(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) { // another user is to get there
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "tool")
	content := bytes.Repeat([]byte("program"), 100_000)
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	d := &daemon{seen: newExecutables(true), settings: settings{Owner: home.Owner{UID: 64101, GID: 64101}}}
	d.seen.take([]*wire.Record{seenRecord(path, "", sum[:]), seenRecord("/elsewhere", "docker:x", sum[:])})

	if got, err := give(t, d, sum[:]); err != nil || got != string(content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := give(t, d, make([]byte, 32)); !errors.Is(err, errNotGiven) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := give(t, d, []byte("short")); !errors.Is(err, api.ErrQuestion) {
		t.Errorf("no hash: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.OpenExecutable(ctx, sum[:], nil); err == nil {
		t.Error("given to somebody who has gone")
	}

	if err := os.Chmod(path, 0o700); err != nil { // root's alone
		t.Fatal(err)
	}
	if got, err := give(t, d, sum[:]); got != "" || !errors.Is(err, unix.EACCES) {
		t.Errorf("what the owner cannot read: %d bytes, %v", len(got), err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := give(t, d, sum[:]); got != "" || err == nil || !strings.Contains(err.Error(), "has another now") {
		t.Errorf("what was changed: %q, %v", got, err)
	}
	if err := os.Truncate(path, maxExecutable+1); err != nil {
		t.Fatal(err)
	}
	if got, err := give(t, d, sum[:]); got != "" || err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large: %d bytes, %v", len(got), err)
	}
	if err := errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := give(t, d, sum[:]); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v", err)
	}
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := give(t, d, sum[:]); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a pipe: %v", err)
	}
	if uid := unix.Geteuid(); uid != 0 {
		t.Errorf("the process is uid %d now", uid)
	}
}

func TestExecutablesAreKeptOnlyIfSomebodyMayAskAndWithinBounds(t *testing.T) {
	t.Parallel()
	e := newExecutables(false)
	sum := sha256.Sum256([]byte("x"))
	e.take([]*wire.Record{seenRecord("/x", "", sum[:])})
	if _, ok := e.path(sum[:]); ok {
		t.Error("kept although nobody may ask")
	}
	e.enable(true)
	e.take([]*wire.Record{seenRecord("/x", "mntns:5", sum[:]), seenRecord("", "", sum[:])})
	if _, ok := e.path(sum[:]); ok {
		t.Error("kept although its path means nothing here")
	}
	for i := range maxSeen + 10 {
		s := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		e.take([]*wire.Record{seenRecord("/y", "", s[:])})
	}
	if len(e.paths) != maxSeen || len(e.order) != maxSeen {
		t.Errorf("%d paths, %d in order", len(e.paths), len(e.order))
	}
	var none *executables
	none.take([]*wire.Record{seenRecord("/x", "", sum[:])})
}
