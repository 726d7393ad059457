package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/picosnitch/picosnitch/host/internal/canary"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/name"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// fakeProbes answer Reattach as they are told.
type fakeProbes struct {
	hooks    []capture.Hook
	err      error
	attempts int
}

func (p *fakeProbes) Reattach() error       { p.attempts++; return p.err }
func (p *fakeProbes) Hooks() []capture.Hook { return p.hooks }

func (p *fakeProbes) Expired(w *capture.Window) (capture.Moment, bool) {
	return capture.Moment{UTC: w.Start.UTC + 1}, len(w.Losses) > 0
}

// watched is a watch with clocks that stand where they are put, and all that it said.
type watched struct {
	*watch
	clock  clocks
	probes *fakeProbes
	gaps   []*wire.Gap
	lines  []string
}

func newWatched(hooks ...capture.Hook) *watched {
	w := &watched{clock: clocks{utc: 1000e9, boot: 100e9, monotonic: 100e9}, probes: &fakeProbes{hooks: hooks}}
	say := func(line string) { w.lines = append(w.lines, line) }
	w.watch = &watch{
		gaps: &ledger{add: func(records ...*wire.Record) {
			for _, r := range records {
				w.gaps = append(w.gaps, r.GetGap())
			}
		}},
		canary: canary.New(canary.Options{Now: capture.Now}), probes: w.probes,
		read: func() clocks { return w.clock }, fault: say, note: say, log: slog.New(slog.DiscardHandler),
	}
	return w
}

func (w *watched) pass(d time.Duration) { w.clock = w.clock.after(d, 0, 0) }

func (w *watched) status() string {
	now, _ := w.watch.gaps.messages()
	return strings.Join(now, "\n")
}

func TestBlindTimeIsToldWithoutHolesUntilItEnds(t *testing.T) {
	t.Parallel()
	w := newWatched(capture.Hook{Sees: "bytes sent", Way: "tracepoint"})
	blind := canary.Verdict{Blind: []string{"bytes sent"}, Since: capture.Moment{UTC: 990e9}}
	for range 20 { // ten minutes
		w.lost(blind)
		w.pass(30 * time.Second)
	}
	if w.probes.attempts < 3 || w.probes.attempts > 5 {
		t.Errorf("attached %d times in ten minutes", w.probes.attempts)
	}
	if !strings.Contains(w.status(), "bytes sent, since") {
		t.Errorf("status: %q", w.status())
	}
	w.found(canary.Verdict{Since: capture.Moment{UTC: w.clock.utc}})
	if w.status() != "" {
		t.Errorf("status: %q", w.status())
	}
	at := int64(990e9)
	for _, g := range w.gaps {
		if g.GetReason() != wire.GapReason_GAP_CANARY_LOST || g.GetStart() != at || !strings.Contains(g.GetCause(), "bytes sent") {
			t.Errorf("%v, want one from %d", g, at)
		}
		at = g.GetEnd()
	}
	if at != w.clock.utc {
		t.Errorf("told until %d, want %d", at, w.clock.utc)
	}
	if len(w.lines) != 2 {
		t.Errorf("error.log: %q", w.lines)
	}
}

func TestHookThatCannotBeAttachedAgainIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWatched(capture.Hook{Sees: "bytes sent"}, capture.Hook{Sees: "bytes received", Way: "tracepoint"})
	w.probes.err = errors.New("attach probes again: bytes sent: no")
	w.lost(canary.Verdict{Blind: []string{"bytes received"}, Since: capture.Moment{UTC: 990e9}})
	if !strings.Contains(w.status(), "not seen: bytes sent") || !strings.Contains(strings.Join(w.lines, "\n"), "restart") {
		t.Errorf("status %q, error.log %q", w.status(), w.lines)
	}
	w.found(canary.Verdict{Since: capture.Moment{UTC: w.clock.utc}})
	since := w.clock.utc
	w.window(&capture.Window{})
	if w.probes.attempts != 1 {
		t.Error("tried again at once")
	}
	w.pass(2 * time.Minute)
	w.probes.hooks[0].Way, w.probes.err = "fexit", nil
	w.window(&capture.Window{})
	if last := w.gaps[len(w.gaps)-1]; last.GetReason() != wire.GapReason_GAP_HOOK_MISSING || last.GetStart() != since || last.GetEnd() != w.clock.utc {
		t.Errorf("%v", last)
	}
	if w.status() != "" {
		t.Errorf("status: %q", w.status())
	}
}

func TestMissingHooksAreToldOnceAStart(t *testing.T) {
	t.Parallel()
	w := newWatched()
	absent := capture.Hook{Sees: "connects, accepts and listens", Failures: []capture.Failure{{Way: "tracepoint", Err: errors.New("a\x1b[1m\nb")}}}
	w.missing([]capture.Hook{absent, {Sees: "bytes sent", Way: "tracepoint"}}, time.Unix(1, 0))
	if len(w.gaps) != 1 || w.gaps[0].GetReason() != wire.GapReason_GAP_HOOK_MISSING || !strings.Contains(w.gaps[0].GetCause(), absent.Sees) {
		t.Errorf("%v", w.gaps)
	}
	if len(w.lines) != 1 || strings.ContainsAny(w.lines[0], "\x1b\n") || !strings.Contains(w.status(), absent.Sees) {
		t.Errorf("error.log %q, status %q", w.lines, w.status())
	}
}

func TestSleepIsToldAndAsksTheCanary(t *testing.T) {
	t.Parallel()
	w := newWatched()
	w.look()
	w.clock = w.clock.after(time.Hour, time.Hour, 0)
	w.look()
	w.look()
	if len(w.gaps) != 1 || w.gaps[0].GetReason() != wire.GapReason_GAP_SUSPENDED || len(w.lines) != 1 {
		t.Errorf("%v, %q", w.gaps, w.lines)
	}
}

func TestExpiryOfProbesThatWereTakenOverIsToldByTheStartAlone(t *testing.T) {
	t.Parallel()
	w := newWatched()
	w.adopted = true
	for range 2 {
		w.window(&capture.Window{Start: capture.Moment{UTC: 500e9}, End: capture.Moment{UTC: 900e9}, Losses: []capture.Loss{{Events: 1}}})
	}
	if len(w.gaps) != 1 || w.gaps[0].GetStart() != 500e9+1 || w.gaps[0].GetEnd() != 900e9 {
		t.Errorf("%v", w.gaps)
	}
}

func TestLedgerJoinsWhatGoesOnAndForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	l := &ledger{add: func(...*wire.Record) {}}
	loss := func(cause string, second int64) *wire.Record {
		return gap(wire.GapReason_GAP_MAP_FULL, cause, time.Unix(second, 0), time.Unix(second+1, 0))
	}
	for i := range int64(100) {
		l.remember([]*wire.Record{loss("owner map full", i), {Kind: &wire.Record_Flow{}}})
	}
	if _, recent := l.messages(); len(recent) != 1 || !strings.Contains(recent[0], "owner map full") {
		t.Errorf("%q", recent)
	}
	for i := range int64(20) {
		l.remember([]*wire.Record{loss(fmt.Sprint("cause ", i), 0)})
	}
	if _, recent := l.messages(); len(recent) != recentGaps || !strings.Contains(recent[recentGaps-1], "cause 19") {
		t.Errorf("%q", recent)
	}
}

// station is every stage above real probes, with a canary in a hurry.
type station struct {
	*pipeline
	instance string
	stop     context.CancelFunc
	ended    chan error
}

func newStation(t *testing.T) *station {
	t.Helper()
	need.Root(t, "load BPF programs")
	dir, s := t.TempDir(), &station{instance: fmt.Sprintf("test-%d-watch", os.Getpid()), ended: make(chan error, 1)}
	source, err := capture.Open(capture.Options{
		Instance: s.instance, Interval: time.Second, RingPages: 64, Secret: make([]byte, 16), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll("/sys/fs/bpf/picosnitch-" + s.instance) }) // of a test that failed halfway
	files, err := record.NewDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := record.New(record.Options{Addresses: true, Ports: true, EveryExe: true}, files, files, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{Dir: filepath.Join(dir, "journal"), HostID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	s.pipeline = &pipeline{
		source: source, table: identity.New(identity.Options{Now: capture.Now, KernelKey: source.FileKey}),
		names: name.New(name.Options{}), recorder: newScribe(recorder), journal: j,
		log: slog.New(slog.DiscardHandler), hold: time.Second, everyExe: true, now: time.Now,
	}
	s.watch = &watch{
		gaps: &ledger{add: s.add}, probes: source, read: readClocks, fault: recorder.Error, note: recorder.Note, log: s.log,
		canary: canary.New(canary.Options{
			Hooks: source.Hooks(), FileKey: source.FileKey, Keep: func([]uint64) error { return nil }, Now: capture.Now,
			Every: time.Millisecond, ExecEvery: time.Millisecond,
		}),
	}
	s.run(t)
	return s
}

// run moves data, and the canary as fast as it is judged.
func (s *station) run(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			if err := s.watch.canary.Tick(); err != nil {
				t.Error(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	go func() { // ended is waited for by finish
		err := s.pipeline.run(ctx)
		running.Wait()
		s.watch.close()
		s.ended <- errors.Join(err, s.close())
	}()
}

func (s *station) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s; %+v", what, s.watch.canary.Counters())
		}
	}
}

func (s *station) seen(word string) bool {
	now, recent := s.watch.gaps.messages()
	return strings.Contains(strings.Join(slices.Concat(now, recent), "\n"), word)
}

func (s *station) blind() bool {
	now, _ := s.watch.gaps.messages()
	return len(now) > 0
}

func TestProbeThatIsTakenAwayMakesAGapAndComesBack(t *testing.T) {
	s := newStation(t)
	cursor, err := s.journal.Cursor("test")
	if err != nil {
		t.Fatal(err)
	}
	s.wait(t, "first exchange", func() bool { return s.watch.canary.Counters().Exchanges > 0 })
	if s.blind() {
		t.Error("blind from the start")
	}
	pins, err := filepath.Glob("/sys/fs/bpf/picosnitch-" + s.instance + "/*/links/send_to_v4")
	if err != nil || len(pins) != 1 {
		t.Fatalf("pins %v, %v", pins, err)
	}
	l, err := link.LoadPinnedLink(pins[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Detach(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	s.wait(t, "gap", func() bool { return s.seen("peers of IPv4 datagrams that are sent") })
	s.wait(t, "recovery", func() bool { return !s.blind() })
	s.stop()
	if err := <-s.ended; err != nil {
		t.Fatal(err)
	}
	var gaps []*wire.Gap
	for _, r := range drainJournal(t, cursor) {
		if g := r.GetGap(); g.GetReason() == wire.GapReason_GAP_CANARY_LOST {
			gaps = append(gaps, g)
		}
		if netns := r.GetFlow().GetNetns(); r.GetFlow().GetProcess().GetId().GetTgid() == uint32(os.Getpid()) && !hostNamespace(t, netns) {
			t.Errorf("the canary made a row: %v", r.GetFlow())
		}
		exec := r.GetExec()
		if exec.GetParent().GetId().GetTgid() == uint32(os.Getpid()) && strings.Contains(string(exec.GetProcess().GetExecutable().GetPath().GetValue()), "memfd:") {
			t.Errorf("the tiny program made a record: %v", exec)
		}
	}
	if len(gaps) < 2 {
		t.Fatalf("%d gaps, want one from the loss and one until the recovery", len(gaps))
	}
	for i, g := range gaps {
		if !strings.Contains(g.GetCause(), "peers of IPv4 datagrams that are sent") || g.GetEnd() < g.GetStart() {
			t.Errorf("%v", g)
		}
		if i > 0 && g.GetStart() != gaps[i-1].GetEnd() {
			t.Errorf("hole between %v and %v", gaps[i-1], g)
		}
	}
}

func hostNamespace(t *testing.T, inode uint32) bool {
	t.Helper()
	target, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return target == fmt.Sprintf("net:[%d]", inode)
}
