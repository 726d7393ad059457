package supervisor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

var someone = process.Owner{UID: 51900, GID: 51901}

func TestSinkGetsEveryBatchOnceThoughItIsKilled(t *testing.T) {
	t.Parallel()
	r := run(t, slot(10), Spec{Name: "sink", Owner: someone})
	r.feed.add(20)
	r.await("20 batches", func() bool { return len(r.rows()) == 20 })
	before := r.Status()[0]
	killed := time.Now()
	if err := syscall.Kill(int(before.GetPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.feed.add(20)
	r.await("40 batches", func() bool { return len(r.rows()) == 40 })
	t.Logf("from kill to the next batch and 19 more: %v", time.Since(killed))
	for i, row := range r.rows() {
		if row.First != uint64(2*i+1) {
			t.Errorf("row %d begins with %d", i, row.First)
		}
	}
	r.await("acknowledged", func() bool { return r.Status()[0].GetAcknowledged() == 80 })
	after := r.Status()[0]
	if after.GetRestarts() != 1 || after.GetPid() == before.GetPid() || after.GetQueued() != 0 {
		t.Errorf("status = %v", after)
	}
	if !strings.Contains(after.GetLastError(), "killed by signal 9") {
		t.Errorf("last error = %q", after.GetLastError())
	}
}

func TestStopDeliversWhatTheJournalHolds(t *testing.T) {
	t.Parallel()
	r := run(t, slot(11), Spec{Name: "sink", Owner: someone})
	r.awaitState(StateRunning)
	r.feed.add(200)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(r.rows()); n != 200 {
		t.Errorf("%d batches, want 200", n)
	}
	if s := r.Status()[0]; s.GetState() != StateStopped || s.GetPid() != 0 {
		t.Errorf("status = %v", s)
	}
	if entries, err := os.ReadDir(r.o.socketDir("sink")); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestStopDoesNotWaitForAStoppedPlugin(t *testing.T) {
	t.Parallel()
	r := run(t, slot(12), Spec{Name: "sink", Owner: someone})
	pid := r.awaitState(StateRunning).GetPid()
	if err := syscall.Kill(int(pid), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Health would find out within half a minute; stopping must not wait for that.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	begun := time.Now()
	_ = r.Stop(ctx)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("stop took %v", took)
	}
}

func TestPermanentFailuresBlock(t *testing.T) {
	t.Parallel()
	dir := tempDir(t, process.Owner{})
	write := func(name string, mode os.FileMode, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		spec Spec
		want string
		slot uint32
	}{
		"missing":    {Spec{Path: dir + "/none"}, "no such file", 13},
		"writable":   {Spec{Path: write("writable", 0o777, "x")}, "can be written by others", 14},
		"no program": {Spec{Path: write("junk", 0o755, "junk")}, "exec format error", 15},
		"sha256":     {Spec{SHA256: strings.Repeat("0", 64)}, "the configuration pins", 16},
		"refuses":    {Spec{Config: []byte(`{"Refuse":true}`)}, "retention: want a number", 17},
		"protocol":   {Spec{Path: write("script", 0o755, "#!/bin/sh\necho hello; sleep 60\n")}, "hello", 18},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.spec.Name, c.spec.Owner = "plugin", someone
			r := run(t, slot(c.slot), c.spec)
			s := r.awaitState(StateBlocked)
			if !strings.Contains(s.GetLastError(), c.want) {
				t.Errorf("error %q does not say %q", s.GetLastError(), c.want)
			}
			if s.GetRestarts() != 0 || s.GetConsequence() == "" {
				t.Errorf("status = %v", s)
			}
		})
	}
}

func TestWhatWaitsForASinkThatNeverRanIsTold(t *testing.T) {
	t.Parallel()
	r := run(t, slot(35), Spec{Name: "sink", Path: "/nonexistent/plugin", Kinds: []string{kindSink}, Owner: someone})
	r.awaitState(StateBlocked)
	r.feed.add(20)
	if s := r.Status()[0]; s.GetQueued() == 0 || strings.Contains(s.GetConsequence(), "; 0 records") {
		t.Errorf("status = %v", s)
	}
}

func TestQueryIsForwarded(t *testing.T) {
	t.Parallel()
	r := run(t, slot(19), Spec{Name: "sqlite", Owner: someone}, Spec{Name: "off", Disabled: true})
	r.awaitState(StateRunning)
	pages := 0
	err := r.Query(t.Context(), "", &wire.Query{}, func(*wire.QueryPage) error { pages++; return nil })
	if err != nil || pages != 3 {
		t.Errorf("%d pages, %v", pages, err)
	}
	enough := errors.New("enough")
	if err := r.Query(t.Context(), "sqlite", &wire.Query{}, func(*wire.QueryPage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error = %v, want page's own", err)
	}
	for _, name := range []string{"off", "nobody"} {
		if err := r.Query(t.Context(), name, &wire.Query{}, nil); !errors.Is(err, ErrNoStore) {
			t.Errorf("query %s: %v", name, err)
		}
	}
}

func TestQueryWaitsForAStoreThatIsStarting(t *testing.T) {
	t.Parallel()
	r := run(t, slot(34), Spec{Name: "sqlite", Owner: someone})
	pages := 0
	err := r.Query(t.Context(), "", &wire.Query{}, func(*wire.QueryPage) error { pages++; return nil })
	if err != nil || pages != 3 {
		t.Errorf("%d pages, %v", pages, err)
	}
}

// doomedHost runs a plugin until it is killed.
func doomedHost(runDir, directory, path, config string) {
	s, err := New(Options{RunDir: runDir, UIDs: slot(20), Feed: func(string) (Feed, error) { return newFeed(0), nil }},
		[]Spec{{Name: "orphan", Path: path, Directory: directory, Owner: someone, MemoryMB: testMemoryMB, Config: []byte(config)}})
	if err != nil {
		panic(err)
	}
	go func() {
		for s.Status()[0].GetState() != StateRunning {
			time.Sleep(5 * time.Millisecond)
		}
		_, _ = os.Stdout.WriteString(strconv.Itoa(int(s.Status()[0].GetPid())) + "\n")
	}()
	_ = s.Run(context.Background())
}

// awaitDoomed starts a host that is to be killed, and returns the pid of its plugin. What the host could not remove is
// removed by the next host of the same run directory.
func awaitDoomed(t *testing.T, host *exec.Cmd, runDir string) int {
	t.Helper()
	host.Stderr = os.Stderr
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	host.Stdout = theirs
	if err := errors.Join(host.Start(), theirs.Close(), out.SetReadDeadline(time.Now().Add(30*time.Second))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = host.Process.Kill()
		groups, err := group.Open(runDir)
		if err == nil {
			err = groups.Close()
		}
		if err != nil {
			t.Errorf("remove the groups of the killed host: %v", err)
		}
	})
	var line [16]byte
	n, _ := out.Read(line[:])
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestPluginDiesWithItsHost(t *testing.T) {
	t.Parallel()
	needRoot(t)
	runDir := tempDir(t, process.Owner{})
	host := exec.Command(selfPath(t), "doomed-host", runDir, filepath.Join(tempDir(t, someone), "own"), selfPath(t), "{}")
	pid := awaitDoomed(t, host, runDir)
	// A stopped plugin cannot notice anything by itself.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the plugin outlived its host")
		}
	}
}

// alive is false for a zombie, too: nobody may be there to reap it.
func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestOpenStoreWorksWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	store, err := OpenStore(t.Context(), Spec{Name: "sqlite", Path: selfPath(t), Directory: t.TempDir(), MemoryMB: testMemoryMB, Config: []byte("{}")}, true)
	if err != nil {
		t.Fatal(err)
	}
	pages := 0
	if err := store.Query(t.Context(), &wire.Query{}, func(*wire.QueryPage) error { pages++; return nil }); err != nil || pages != 3 {
		t.Errorf("%d pages, %v", pages, err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
