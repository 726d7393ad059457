package live

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kernel is a Peeker whose window the test writes.

type kernel struct {
	mu     sync.Mutex
	window capture.Window
	peeks  int
}

func (k *kernel) Peek(context.Context) (*capture.Window, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.peeks++
	w := k.window
	return &w, nil
}

func (k *kernel) set(generation uint64, flows ...capture.Flow) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.window = capture.Window{Generation: generation, Flows: flows}
}

func (k *kernel) looks() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.peeks
}

func flow(port uint16, sent uint64) capture.Flow {
	return capture.Flow{
		Process: capture.Key{Tgid: 7, Start: 7}, Layer: wire.Layer_LAYER_SOCKET, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP,
		Local: netip.MustParseAddrPort("192.0.2.1:40000"), Remote: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port),
		Peer: wire.Peer_PEER_EXACT, Sent: sent, Sends: 1, UID: 1000, Name: "curl",
	}
}

func newFeed(t *testing.T, o Options) *Feed {
	t.Helper()
	if o.Lineage == nil {
		o.Lineage = func(*capture.Flow) identity.Lineage { return identity.Lineage{} }
	}
	if o.Record.Domains == nil && !o.Record.Ports {
		o.Record.Addresses, o.Record.Commands, o.Record.Ports = true, true, true
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// watch gathers pages until the test ends.

func watch(t *testing.T, f *Feed, r *wire.WatchRequest) *seen {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &seen{rates: map[int32]uint64{}}
	before := f.watching()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.fail(f.Watch(ctx, r, s.page))
	}()
	t.Cleanup(func() { cancel(); <-done })
	await(t, "a watcher", func() bool { return f.watching() > before })
	return s
}

// await polls for 20 seconds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never seen: %s", what)
		}
	}
}

func (f *Feed) watching() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers)
}

// seen is what a reader was shown.

type seen struct {
	mu      sync.Mutex
	pages   int
	rates   map[int32]uint64 // by remote port, newest
	flows   int
	records []*wire.Record
	lagged  uint64
	err     error
}

func (s *seen) page(p *wire.WatchPage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages++
	for _, f := range p.GetFlows() {
		s.flows++
		s.rates[f.GetFlow().GetRemote().GetPort()] = f.GetSentRate()
	}
	s.records = append(s.records, p.GetRecords()...)
	s.lagged += p.GetLagged()
	return nil
}

func (s *seen) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *seen) until(t *testing.T, what string, ok func(s *seen) bool) {
	t.Helper()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.Failed() {
			t.Logf("%d pages, %d flows, %d records, lagged %d, %v", s.pages, s.flows, len(s.records), s.lagged, s.err)
		}
	}()
	await(t, what, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return ok(s)
	})
}

// stepped is a feed with one watcher, that looks and shows when the test says so.

type stepped struct {
	t      *testing.T
	feed   *Feed
	kernel *kernel
	now    time.Time
	w      *watcher
}

func newStepped(t *testing.T) *stepped {
	t.Helper()
	s := &stepped{t: t, kernel: &kernel{}, now: time.Unix(1000, 0)}
	s.feed = newFeed(t, Options{Peek: s.kernel, Now: func() time.Time { return s.now }})
	s.feed.stop, s.feed.since, s.feed.seen = func() {}, math.MaxUint64, map[uint64]map[flowKey]sum{} // as if it were looking
	var err error
	if s.w, err = newWatcher(&wire.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := s.feed.join(s.w); err != nil {
		t.Fatal(err)
	}
	return s
}

// look lets a second pass, looks, and gives what the page shows: bytes sent per second by remote port.

func (s *stepped) look() map[int32]uint64 {
	s.t.Helper()
	s.now = s.now.Add(time.Second)
	if err := s.feed.look(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return s.page()
}

func (s *stepped) page() map[int32]uint64 {
	rates := map[int32]uint64{}
	for _, f := range s.w.take(s.now, time.Second).GetFlows() {
		rates[f.GetFlow().GetRemote().GetPort()] = f.GetSentRate()
	}
	return rates
}

// window is complete.

func (s *stepped) window(generation uint64, flows ...capture.Flow) {
	var records []*wire.Record
	for _, f := range flows {
		records = append(records, &wire.Record{Kind: &wire.Record_Flow{Flow: rowOf(s.t, s.feed, f)}})
	}
	s.feed.Window(&capture.Window{Generation: generation, Start: capture.Moment{Boot: 1}, End: capture.Moment{Boot: 1 + 10e9}}, records)
}

func TestEveryByteIsShownOnceWithItsRate(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	want := func(what string, got, want map[int32]uint64) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	s.kernel.set(5, flow(443, 5_000_000))
	want("what there is, at rest", s.look(), map[int32]uint64{443: 0})
	want("nothing moved", s.look(), map[int32]uint64{})
	s.kernel.set(5, flow(443, 5_300_000), flow(80, 70_000))
	want("one moved, one is new", s.look(), map[int32]uint64{443: 300_000, 80: 70_000})
	s.kernel.set(6, flow(443, 100_000))
	want("the next window", s.look(), map[int32]uint64{443: 100_000})
	s.window(5, flow(443, 5_320_000), flow(80, 70_000))
	want("what the window before had left", s.page(), map[int32]uint64{443: 20_000})
	s.window(4, flow(22, 1000))
	want("a window from before anybody watched", s.page(), map[int32]uint64{})
	s.window(6, flow(443, 100_000))
	s.window(7, flow(443, 50_000))
	want("a window that nobody looked into, of ten seconds", s.page(), map[int32]uint64{443: 5_000})
	s.kernel.set(8, flow(443, 10))
	s.now = s.now.Add(time.Second)
	if err := s.feed.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.kernel.set(8, flow(443, 3010))
	want("two looks in one page, of two seconds", s.look(), map[int32]uint64{443: 3010 / 2})
}

func TestWhatMovesIsShown(t *testing.T) {
	t.Parallel()
	k := &kernel{}
	k.set(5, flow(443, 5_000_000))
	f := newFeed(t, Options{Peek: k})
	s := watch(t, f, &wire.WatchRequest{Interval: int64(shortest)})
	s.until(t, "what there is, at rest", func(s *seen) bool { rate, ok := s.rates[443]; return ok && rate == 0 })
	k.set(5, flow(443, 5_300_000), flow(80, 70_000))
	s.until(t, "a new flow", func(s *seen) bool { return s.rates[80] > 0 && s.rates[443] > 0 })
	late := watch(t, f, &wire.WatchRequest{Interval: int64(shortest)})
	late.until(t, "what there is, for who comes later", func(s *seen) bool { return len(s.rates) == 2 })
}

// rowOf is a flow as it would be recorded.

func rowOf(t *testing.T, f *Feed, c capture.Flow) *wire.Flow {
	t.Helper()
	for _, row := range f.filter.flows(&capture.Window{Flows: []capture.Flow{c}}) {
		return row
	}
	t.Fatal("no row")
	return nil
}

func TestNothingIsComputedWhenNobodyWatches(t *testing.T) {
	t.Parallel()
	k := &kernel{}
	f := newFeed(t, Options{Peek: k})
	f.Records([]*wire.Record{{Kind: &wire.Record_Gap{Gap: &wire.Gap{}}}})
	f.Window(&capture.Window{Generation: 1}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() {
		watching <- f.Watch(ctx, &wire.WatchRequest{Interval: int64(shortest)}, func(*wire.WatchPage) error { return nil })
	}()
	await(t, "a look", func() bool { return k.looks() > 0 })
	cancel()
	if err := <-watching; !errors.Is(err, context.Canceled) {
		t.Errorf("watch ended: %v", err)
	}
	f.looking.Wait()
	before := k.looks()
	time.Sleep(3 * shortest)
	if k.looks() != before {
		t.Error("somebody still looks")
	}
	if f.seen != nil || f.current != nil {
		t.Error("something is kept")
	}
}

func TestWithoutAWayToLookWindowsAreShown(t *testing.T) {
	t.Parallel()
	f := newFeed(t, Options{})
	s := watch(t, f, &wire.WatchRequest{Interval: int64(shortest), Kinds: []wire.WatchRequest_Kind{wire.WatchRequest_FLOWS}})
	row := &wire.Record{Kind: &wire.Record_Flow{Flow: rowOf(t, f, flow(443, 10_000))}}
	gap := &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{}}}
	f.Window(&capture.Window{Generation: 1, Start: capture.Moment{Boot: 1}, End: capture.Moment{Boot: 1 + 10e9}}, []*wire.Record{row, gap})
	s.until(t, "the window's flow", func(s *seen) bool { return s.flows == 1 })
	if rate := s.rates[443]; rate != 1000 {
		t.Errorf("rate %d, want 1000: 10,000 bytes in ten seconds", rate)
	}
	if len(s.records) != 0 {
		t.Errorf("records that nobody asked for: %v", s.records)
	}
}

func TestRecordsPassAsTheyAreMadeWithoutSequence(t *testing.T) {
	t.Parallel()
	f := newFeed(t, Options{})
	s := watch(t, f, &wire.WatchRequest{Interval: int64(shortest), Kinds: []wire.WatchRequest_Kind{
		wire.WatchRequest_EXECS, wire.WatchRequest_NOTICES, wire.WatchRequest_GAPS}})
	records := []*wire.Record{
		{Sequence: 4, Kind: &wire.Record_Exec{Exec: &wire.Exec{}}}, {Kind: &wire.Record_Notice{Notice: &wire.Notice{}}},
		{Kind: &wire.Record_Gap{Gap: &wire.Gap{}}}, {Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{}}},
		{Kind: &wire.Record_Flow{Flow: &wire.Flow{}}},
	}
	f.Records(records)
	records[1].Sequence = 9 // as the journal does
	s.until(t, "three records", func(s *seen) bool { return len(s.records) == 3 })
	for _, r := range s.records {
		if r.GetSequence() != 0 {
			t.Errorf("record with a sequence: %v", r)
		}
	}
}

func TestPrivacyAndIgnoreRulesHoldForWhatIsShown(t *testing.T) {
	t.Parallel()
	k := &kernel{}
	k.set(1, flow(443, 5), flow(22, 6))
	o := record.Options{Ports: true, Ignore: record.Ignore{Ports: []uint16{22}}}
	f := newFeed(t, Options{Peek: k, Record: o})
	s := watch(t, f, &wire.WatchRequest{Interval: int64(shortest)})
	s.until(t, "the flow that is not ignored", func(s *seen) bool { _, ok := s.rates[443]; return ok })
	if _, ok := s.rates[22]; ok {
		t.Error("an ignored flow is shown")
	}
	row := rowOf(t, f, flow(443, 1))
	if len(row.GetRemote().GetIp()) != 0 {
		t.Errorf("remote address %v without Log addresses", row.GetRemote())
	}
	if err := f.Reconfigure(record.Options{Addresses: true, Ports: true}); err != nil {
		t.Fatal(err)
	}
	if row := rowOf(t, f, flow(22, 1)); len(row.GetRemote().GetIp()) != 4 {
		t.Errorf("after Reconfigure: %v", row.GetRemote())
	}
	if err := f.Reconfigure(record.Options{Unredacted: []string{"nothing of the kind"}}); err == nil {
		t.Error("options that contradict themselves are taken")
	}
}
