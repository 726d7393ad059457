package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// status is a plugin's, or nil.
func (r *rig) status(name string) *wire.PluginStatus {
	for _, s := range r.Status() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

// specOf is what run would make of a name.
func (r *rig) specOf(name string) Spec {
	r.t.Helper()
	return Spec{Name: name, Path: selfPath(r.t), Owner: someone, MemoryMB: testMemoryMB, Config: []byte("{}"),
		Directory: filepath.Join(tempDir(r.t, someone), name)}
}

func TestReconfigureTouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	r := run(t, slot(60), Spec{Name: "stays", Owner: someone}, Spec{Name: "goes", Owner: someone}, Spec{Name: "changes", Owner: someone})
	running := func(names ...string) func() bool {
		return func() bool {
			return !slices.ContainsFunc(names, func(name string) bool { return r.status(name).GetState() != StateRunning })
		}
	}
	r.await("three", running("stays", "goes", "changes"))
	before := map[string]uint32{}
	for _, s := range r.Status() {
		before[s.GetName()] = s.GetPid()
	}
	specs := map[string]Spec{}
	for _, w := range r.all() {
		specs[w.spec.Name] = w.spec
	}
	changed, stays := specs["changes"], specs["stays"]
	changed.Config = []byte(`{"Secret":"other"}`)
	stays.Paths = map[string]string{} // means the same as nil
	if err := r.Reconfigure([]Spec{stays, changed, r.specOf("comes")}); err != nil {
		t.Fatal(err)
	}
	r.await("the new ones", running("stays", "changes", "comes"))
	if r.status("goes") != nil {
		t.Error("what is gone is still shown")
	}
	r.await("the end of what is gone", func() bool { return !alive(int(before["goes"])) })
	if pid := r.status("stays").GetPid(); pid != before["stays"] {
		t.Error("what did not change was started anew")
	}
	if pid := r.status("changes").GetPid(); pid == before["changes"] {
		t.Error("what changed was not started anew")
	}
	uids := map[uint32]bool{}
	for _, s := range r.Status() {
		uids[s.GetUid()] = true
	}
	if len(uids) != 3 {
		t.Errorf("%d uids for three plugins", len(uids))
	}
}

func TestReconfigureWaitsForNobody(t *testing.T) {
	t.Parallel()
	gone := make(chan string, 2)
	r := runWith(t, slot(65), func(o *Options) { o.Gone = func(name string) { gone <- name } }, Spec{Name: "stuck", Owner: someone})
	old := int(r.awaitState(StateRunning).GetPid())
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil { // it takes the five seconds of a drain to end
		t.Fatal(err)
	}
	again := r.all()[0].spec
	again.Config = []byte(`{"Secret":"other"}`)
	for _, specs := range [][]Spec{{again}, nil, {r.specOf("comes"), again}} { // the last one finds no trace of the first
		if err := r.Reconfigure(specs); err != nil {
			t.Fatal(err)
		}
	}
	r.await("the other one", func() bool { return r.status("comes").GetPid() != 0 }) // until it runs may take it longer
	if !alive(old) || r.status("stuck").GetPid() != 0 {
		t.Error("somebody waited for what is stuck, or did not where it had to")
	}
	r.await("its turn", func() bool { return r.status("stuck").GetState() == StateRunning })
	if alive(old) {
		t.Error("it was started beside the one in whose place it is")
	}
	for range 2 { // the one that was stuck, and the one that never came to run
		if name := <-gone; name != "stuck" {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestReconfigureWithABadSpecChangesNothing(t *testing.T) {
	t.Parallel()
	r := run(t, slot(61), Spec{Name: "stays", Owner: someone})
	r.awaitState(StateRunning)
	if err := r.Reconfigure([]Spec{{Name: "x", Directory: "relative"}}); err == nil {
		t.Error("it was taken")
	}
	if s := r.status("stays"); s.GetState() != StateRunning || len(r.Status()) != 1 {
		t.Errorf("status = %v", r.Status())
	}
}

func TestReconfigureBeforeAndAfterRun(t *testing.T) {
	t.Parallel()
	s, err := New(Options{RunDir: "/nowhere"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reconfigure([]Spec{{Name: "x", Directory: "/x"}}); err != nil || len(s.Status()) != 1 {
		t.Errorf("before: %v, %v", s.Status(), err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reconfigure(nil); !errors.Is(err, ErrStopping) {
		t.Errorf("after: %v", err)
	}
}

func TestRestartNamesWhatItCannot(t *testing.T) {
	t.Parallel()
	s, err := New(Options{RunDir: "/nowhere"}, []Spec{{Name: "off", Directory: "/x", Disabled: true}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"off": "disabled", "nobody": "no plugin is called"} {
		if err := s.Restart(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("restart %s: %v", name, err)
		}
	}
}

func TestRestartStartsARunningPluginAnew(t *testing.T) {
	t.Parallel()
	r := run(t, slot(62), Spec{Name: "sink", Owner: someone})
	before := r.awaitState(StateRunning).GetPid()
	if err := r.Restart("sink"); err != nil {
		t.Fatal(err)
	}
	r.await("another process", func() bool {
		s := r.Status()[0]
		return s.GetState() == StateRunning && s.GetPid() != before
	})
	r.feed.add(3)
	r.await("3 batches", func() bool { return len(r.rows()) == 3 })
}

func TestUseStartsAPluginOnDemand(t *testing.T) {
	t.Parallel()
	r := run(t, slot(63), Spec{Name: "geoip", Owner: someone, Kinds: []string{"locator"}, OnDemand: true})
	r.awaitState(StateIdle)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := r.Use(ctx, "geoip", func(ctx context.Context, c *sdk.Client) error {
		d, err := c.Plugin.Describe(ctx, &wire.DescribeRequest{Wire: wire.Version})
		if err == nil && d.GetName() != "test" {
			err = fmt.Errorf("it is called %q", d.GetName())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPluginGetsItsListenerAndItsHostSocket(t *testing.T) {
	t.Parallel()
	needRoot(t)
	address := freeAddress(t)
	var stopped atomic.Int32
	config, err := json.Marshal(testConfig{Probe: true})
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "dash", Owner: someone, Listen: address, Config: config}
	r := runWith(t, slot(64), func(o *Options) {
		o.HostService = func(name string, l net.Listener) func() {
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, "hello "+name)
					_ = conn.Close()
				}
			}()
			return func() { stopped.Add(1); _ = l.Close(); <-served }
		}
	}, spec)
	r.awaitState(StateRunning)
	text, err := os.ReadFile(filepath.Join(r.dir, "probe.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	if err := json.Unmarshal(text, &s); err != nil || s.Heard != "hello dash" {
		t.Errorf("on host.sock it heard %q, %v", s.Heard, err)
	}
	if len(s.Interfaces) > 0 {
		t.Errorf("it has a network: %v", s.Interfaces)
	}
	greeted(t, address)
	if stopped.Load() != 0 {
		t.Error("its service was stopped while it runs")
	}
	if err := r.Restart("dash"); err != nil {
		t.Fatal(err)
	}
	r.await("the end of the first service", func() bool { return stopped.Load() == 1 })
	r.awaitState(StateRunning)
}

// Not parallel: it counts what the whole process holds.
func TestRestartsLeaveNothing(t *testing.T) {
	needRoot(t)
	const plugins = 8 // so that a machine with several cores starts several at a time
	restarts := 1000
	if testing.Short() || testMemoryMB > 1<<20 { // the race detector is slow
		restarts = 60
	}
	var specs []Spec
	for n := range plugins {
		specs = append(specs, Spec{Name: fmt.Sprint("crashes", n), Owner: someone, DiskMB: 64, Network: []string{"127.0.0.1:9"}})
	}
	uids := UIDs{First: 62400, Last: 62463} // another run of this test beside it takes some, too
	r := runWith(t, uids, func(o *Options) {
		o.Jitter = func() float64 { return 0 }
		o.HostService = func(_ string, l net.Listener) func() { return func() { _ = l.Close() } }
	}, specs...)
	last := r.next(make([]uint32, plugins))
	crash := func() {
		for n, pid := range last {
			// A killed one that did nothing useful would have to wait: it is told to forget its failures.
			if err := errors.Join(syscall.Kill(int(pid), syscall.SIGKILL), r.Restart(specs[n].Name)); err != nil {
				t.Fatal(err)
			}
		}
		last = r.next(last)
	}
	crash()
	before := hold()
	begun, done := time.Now(), 0
	for ; done < restarts; done += plugins {
		crash()
	}
	t.Logf("%d restarts, %v each on this machine as loaded as it is", done, time.Since(begun)/time.Duration(done))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		now := hold()
		if now.goroutines <= before.goroutines && now.files <= before.files && now.heap < before.heap+4<<20 {
			t.Logf("before %+v, after %+v", before, now)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("before %+v, after %+v", before, now)
		}
	}
}

// next waits until each plugin runs as another process than its last one.
func (r *rig) next(last []uint32) (pids []uint32) {
	r.t.Helper()
	r.await("another start of each", func() bool {
		pids = nil
		for n, s := range r.Status() {
			if pid := s.GetPid(); s.GetState() == StateRunning && pid != last[n] {
				pids = append(pids, pid)
			}
		}
		return len(pids) == len(last)
	})
	return pids
}

// held is what this process holds.
type held struct {
	goroutines, files int
	heap              uint64
}

func hold() held {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return held{runtime.NumGoroutine(), len(openFiles()), m.HeapAlloc}
}
