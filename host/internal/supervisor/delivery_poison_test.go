package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// strictSink counts as a store does: what does not follow on what it has, it wants to be explained by a Gap.
type strictSink struct {
	have    map[sdk.Epoch]uint64
	taken   []string // text of the records, "gap REASON" for those
	gaps    []*wire.Gap
	applies int
	// refuse decides about a batch before it is looked at further; nil, nil: it may be taken.
	refuse func(b *wire.Batch) (*wire.ApplyResponse, error)
}

func (s *strictSink) apply(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
	s.applies++
	epoch := sdk.Epoch(b.GetEpoch())
	have := s.have[epoch]
	explained := slices.ContainsFunc(b.GetRecords(), func(r *wire.Record) bool {
		g := r.GetGap()
		return g != nil && sdk.Epoch(g.GetEpoch()) == epoch && g.GetFirst() <= have+1 && g.GetLast() >= b.GetFirst()-1
	})
	switch {
	case b.GetLast() <= have:
		return acknowledge(b), nil
	case b.GetFirst() != have+1 && (b.GetFirst() <= have || !explained):
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rewind{Rewind: &wire.Rewind{
			Watermark: &wire.Watermark{Epoch: b.GetEpoch(), Sequence: have}}}}, nil
	}
	if s.refuse != nil {
		if r, err := s.refuse(b); r != nil || err != nil {
			return r, err
		}
	}
	for i, r := range b.GetRecords() {
		if r.GetSequence() != b.GetFirst()+uint64(i) {
			return nil, status.Error(codes.Internal, "a hole in the batch")
		}
		if g := r.GetGap(); g != nil {
			s.gaps = append(s.gaps, g)
			s.taken = append(s.taken, "gap "+g.GetReason().String())
			continue
		}
		s.taken = append(s.taken, string(r.GetNotice().GetText().GetValue()))
	}
	s.have[epoch] = b.GetLast()
	return acknowledge(b), nil
}

// lane is a sink at the end of a real journal.
type lane struct {
	*strictSink
	t      *testing.T
	j      *journal.Journal
	cursor *journal.Cursor
	events []Event
}

func newLane(t *testing.T) *lane {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), HostID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := j.Cursor("strict")
	if err != nil {
		t.Fatal(err)
	}
	return &lane{strictSink: &strictSink{have: map[sdk.Epoch]uint64{}}, t: t, j: j, cursor: c}
}

// add appends one batch of n records, of which those given are poison.
func (l *lane) add(n int, poison ...int) {
	l.t.Helper()
	records := make([]*wire.Record, n)
	for i := range records {
		text := fmt.Sprint(i + 1)
		if slices.Contains(poison, i+1) {
			text = "poison " + text
		}
		records[i] = &wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Text: &wire.Text{Value: []byte(text)}}}}
	}
	if _, _, err := l.j.Append(records); err != nil {
		l.t.Fatal(err)
	}
}

// live is one incarnation: it takes batches until nothing is left, and the error that ends it.
func (l *lane) live() error {
	l.t.Helper()
	o := &Options{HostID: [16]byte{1}, Jitter: func() float64 { return 0 }, Report: func(e Event) { l.events = append(l.events, e) }}
	w := newWorker(Spec{Name: "strict", Directory: "/nowhere"}, o)
	plugin := fakePlugin{apply: l.apply}
	r := &running{worker: w, inc: &incarnation{life: newFakeLife(), client: &sdk.Client{Plugin: plugin, Sink: plugin}}, feed: l.cursor}
	if mark, ok := l.have[l.j.Epoch()]; ok {
		l.cursor.Seek([]sdk.Watermark{{Epoch: l.j.Epoch(), Sequence: mark}})
	}
	d := newDelivery(r)
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for l.cursor.Lag() > 0 {
		if _, err := d.next(ctx, ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			l.t.Fatalf("still %d records to go after a minute", l.cursor.Lag())
		}
	}
	return nil
}

// poisonous are the records of a batch that are poison.
func poisonous(b *wire.Batch) (sequences []uint64) {
	for _, r := range b.GetRecords() {
		if strings.HasPrefix(string(r.GetNotice().GetText().GetValue()), "poison") {
			sequences = append(sequences, r.GetSequence())
		}
	}
	return sequences
}

func rejected(sequences []uint64) *wire.ApplyResponse {
	return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rejected{Rejected: &wire.Rejected{Sequences: sequences, Reason: "odd"}}}
}

// check compares what the sink has, and what was set aside, with one batch of n records in which those given are poison.
func (l *lane) check(n int, poison ...int) {
	l.t.Helper()
	var want, wantAside []string
	for i := range n {
		if slices.Contains(poison, i+1) {
			want = append(want, "gap GAP_POISON")
			wantAside = append(wantAside, fmt.Sprint("poison ", i+1))
			continue
		}
		want = append(want, fmt.Sprint(i+1))
	}
	if !slices.Equal(l.taken, want) {
		l.t.Errorf("the sink has %q\nwant %q", l.taken, want)
	}
	if got := l.aside(); !slices.Equal(got, wantAside) {
		l.t.Errorf("set aside %q, want %q", got, wantAside)
	}
}

func (l *lane) aside() (texts []string) {
	l.t.Helper()
	all, err := l.j.Aside("strict")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, a := range all {
		for _, r := range a.Records {
			texts = append(texts, string(r.GetNotice().GetText().GetValue()))
		}
	}
	return texts
}

func TestOnlyThePoisonIsSetAside(t *testing.T) {
	t.Parallel()
	everything := func(b *wire.Batch) (all []uint64) {
		for _, r := range b.GetRecords() {
			all = append(all, r.GetSequence())
		}
		return all
	}
	for name, answer := range map[string]func(b *wire.Batch) (*wire.ApplyResponse, error){
		"names them":      func(b *wire.Batch) (*wire.ApplyResponse, error) { return rejected(poisonous(b)), nil },
		"names the first": func(b *wire.Batch) (*wire.ApplyResponse, error) { return rejected(poisonous(b)[:1]), nil },
		"names none":      func(*wire.Batch) (*wire.ApplyResponse, error) { return rejected(nil), nil },
		"names all":       func(b *wire.Batch) (*wire.ApplyResponse, error) { return rejected(everything(b)), nil },
		"cannot decode":   func(*wire.Batch) (*wire.ApplyResponse, error) { return nil, status.Error(codes.InvalidArgument, "no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLane(t)
			l.refuse = func(b *wire.Batch) (*wire.ApplyResponse, error) {
				if len(poisonous(b)) == 0 {
					return nil, nil
				}
				return answer(b)
			}
			l.add(300, 7, 8, 123, 300)
			if err := l.live(); err != nil {
				t.Fatal(err)
			}
			l.check(300, 7, 8, 123, 300)
			if l.applies > 80 {
				t.Errorf("%d applies", l.applies)
			}
			for _, g := range l.gaps {
				if g.GetSink() != "strict" || g.GetFirst() != g.GetLast() {
					t.Errorf("gap %v", g)
				}
			}
		})
	}
}

func TestARecordThatKillsTheSinkIsFoundAndTheRestDelivered(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	l.refuse = func(b *wire.Batch) (*wire.ApplyResponse, error) {
		if len(poisonous(b)) > 0 {
			return nil, status.Error(codes.Unavailable, "connection closed")
		}
		return nil, nil
	}
	l.add(100, 42, 43)
	deaths := 0
	for l.live() != nil {
		if deaths++; deaths > 40 {
			t.Fatalf("it died %d times, and %d records wait", deaths, l.cursor.Lag())
		}
	}
	l.check(100, 42, 43)
	if deaths < 4 || deaths > 25 {
		t.Errorf("it died %d times", deaths)
	}
	t.Logf("%d deaths to find 2 records of 100", deaths)
}

func TestTwoDeathsByAccidentChangeNothing(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	deaths := 0
	l.refuse = func(*wire.Batch) (*wire.ApplyResponse, error) {
		if deaths++; deaths <= 2 {
			return nil, status.Error(codes.Unavailable, "killed")
		}
		return nil, nil
	}
	l.add(10)
	for l.live() != nil {
		continue
	}
	l.check(10)
	if l.applies != 3 {
		t.Errorf("%d applies, want the whole batch three times", l.applies)
	}
}

func TestASinkThatRefusesEverythingIsNotAskedAboutEveryRecord(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	broken := true
	l.refuse = func(b *wire.Batch) (*wire.ApplyResponse, error) {
		if real := slices.ContainsFunc(b.GetRecords(), func(r *wire.Record) bool { return r.GetGap() == nil }); broken && real {
			return rejected(nil), nil
		}
		return nil, nil
	}
	l.add(4000)
	if err := l.live(); err != nil {
		t.Fatal(err)
	}
	if n := len(l.aside()); n != 4000 || len(l.gaps) != 4000 || l.applies > 400 {
		t.Errorf("%d set aside, %d gaps, %d applies", n, len(l.gaps), l.applies)
	}
	broken = false
	l.taken = nil
	if n, err := l.j.Retry("strict"); n != 4000 || err != nil {
		t.Fatalf("retried %d, %v", n, err)
	}
	if err := l.live(); err != nil {
		t.Fatal(err)
	}
	if l.check(4000); l.have[l.j.Epoch()] != 8000 {
		t.Errorf("the sink is at %d", l.have[l.j.Epoch()])
	}
}

func TestASinkInTheMiddleOfABatchGetsTheRestOfIt(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	l.add(10)
	l.have[l.j.Epoch()] = 4
	if err := l.live(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"5", "6", "7", "8", "9", "10"}; !slices.Equal(l.taken, want) || l.applies != 1 {
		t.Errorf("%q after %d applies, want %q after one", l.taken, l.applies, want)
	}
}

func TestADiscardedBacklogReachesAStrictSinkAsOneGap(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	l.add(10)
	l.add(10)
	if n, err := l.j.Discard("strict"); n != 20 || err != nil {
		t.Fatalf("discarded %d, %v", n, err)
	}
	l.add(2)
	if err := l.live(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"gap GAP_QUEUE_DROPPED", "1", "2"}; !slices.Equal(l.taken, want) || l.gaps[0].GetEvents() != 20 {
		t.Errorf("%q with %v, want %q", l.taken, l.gaps, want)
	}
}

func TestWhatCannotBeSetAsideIsNotGivenUp(t *testing.T) {
	t.Parallel()
	l := newLane(t)
	l.add(3, 2)
	l.refuse = func(b *wire.Batch) (*wire.ApplyResponse, error) {
		if named := poisonous(b); len(named) > 0 {
			return rejected(named), nil
		}
		return nil, nil
	}
	o := &Options{HostID: [16]byte{1}, Jitter: func() float64 { return 0 }}
	feed := &fullFeed{Cursor: l.cursor, fail: 1}
	plugin := fakePlugin{apply: l.apply}
	d := newDelivery(&running{worker: newWorker(Spec{Name: "strict", Directory: "/nowhere"}, o),
		inc: &incarnation{life: newFakeLife(), client: &sdk.Client{Plugin: plugin, Sink: plugin}}, feed: feed})
	if _, err := d.next(t.Context(), t.Context()); err != nil {
		t.Fatal(err)
	}
	if feed.calls != 2 {
		t.Errorf("%d tries to set it aside, want 2", feed.calls)
	}
	l.check(3, 2)
}

// fullFeed cannot set anything aside for a while.
type fullFeed struct {
	*journal.Cursor
	fail, calls int
}

func (f *fullFeed) SetAside(epoch sdk.Epoch, records []*wire.Record, reason string) error {
	if f.calls++; f.calls <= f.fail {
		return errors.Join(journal.ErrDisk)
	}
	return f.Cursor.SetAside(epoch, records, reason)
}

// deliverDuringDiscard discards what waits at the sink's first refusal, which stores nothing unless told otherwise.
func deliverDuringDiscard(t *testing.T, stores bool) *lane {
	t.Helper()
	l := newLane(t)
	l.add(5)
	l.add(2)
	discarded := false
	l.refuse = func(*wire.Batch) (*wire.ApplyResponse, error) {
		if discarded {
			return nil, nil
		}
		discarded = true
		if n, err := l.j.Discard("strict"); n != 7 || err != nil {
			t.Errorf("discarded %d, %v, want 7", n, err)
		}
		if stores {
			return nil, nil
		}
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_RetryAfter{RetryAfter: &wire.RetryAfter{
			Delay: 1, Reason: "the disk is full", Downstream: true}}}, nil
	}
	if err := l.live(); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestABatchThatIsBeingRetriedIsWithdrawnWhenItIsDiscarded(t *testing.T) {
	t.Parallel()
	l := deliverDuringDiscard(t, false)
	if want := []string{"gap GAP_QUEUE_DROPPED"}; !slices.Equal(l.taken, want) || l.gaps[0].GetFirst() != 1 || l.gaps[0].GetLast() != 7 {
		t.Errorf("the sink has %q with %v, want %q for 1..7", l.taken, l.gaps, want)
	}
	l.dropped(7)
}

func TestABatchThatTheSinkTakesAsItIsDiscardedIsNotCountedAsDropped(t *testing.T) {
	t.Parallel()
	l := deliverDuringDiscard(t, true)
	want := []string{"1", "2", "3", "4", "5", "gap GAP_QUEUE_DROPPED"}
	if !slices.Equal(l.taken, want) || l.gaps[0].GetFirst() != 6 || l.gaps[0].GetEvents() != 2 {
		t.Errorf("the sink has %q with %v, want %q with a gap of 2", l.taken, l.gaps, want)
	}
	l.dropped(2)
}

// dropped compares what the journal counts as discarded for the sink.
func (l *lane) dropped(want uint64) {
	l.t.Helper()
	s, err := l.cursor.Stats()
	if err != nil || s.Dropped != (journal.Dropped{Discarded: want}) {
		l.t.Errorf("dropped %+v, %v, want %d discarded", s.Dropped, err, want)
	}
}
