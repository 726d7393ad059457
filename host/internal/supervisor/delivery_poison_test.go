package supervisor

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

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
	if n, err := l.j.Discard(t.Context(), "strict"); n != 20 || err != nil {
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

// deliverDuringDiscard discards what waits while the sink is given the first batch, as far as ctx lets it wait for the
// answer.
func deliverDuringDiscard(t *testing.T, ctx context.Context, answer *wire.ApplyResponse) (l *lane, discarded uint64) {
	t.Helper()
	l = newLane(t)
	l.add(5)
	l.add(2)
	over := make(chan error, 1)
	calls := 0
	l.refuse = func(*wire.Batch) (*wire.ApplyResponse, error) {
		if calls++; calls > 1 {
			return nil, nil
		}
		go func() {
			var err error
			discarded, err = l.j.Discard(ctx, "strict")
			over <- err
		}()
		if ctx.Err() != nil {
			over <- <-over // it has ended
		}
		return answer, nil
	}
	if err := errors.Join(l.live(), <-over); err != nil {
		t.Fatal(err)
	}
	return l, discarded
}

func TestABatchThatIsBeingRetriedIsWithdrawnWhenItIsDiscarded(t *testing.T) {
	t.Parallel()
	full := &wire.RetryAfter{Delay: int64(time.Second), Reason: "the disk is full", Downstream: true}
	l, n := deliverDuringDiscard(t, t.Context(), &wire.ApplyResponse{Outcome: &wire.ApplyResponse_RetryAfter{RetryAfter: full}})
	if n != 7 {
		t.Errorf("discarded %d, want 7", n)
	}
	if want := []string{"gap GAP_QUEUE_DROPPED"}; !slices.Equal(l.taken, want) || l.gaps[0].GetFirst() != 1 || l.gaps[0].GetLast() != 7 {
		t.Errorf("the sink has %q with %v, want %q for 1..7", l.taken, l.gaps, want)
	}
	l.dropped(7)
}

func TestABatchThatTheSinkIsBeingGivenIsNotDiscarded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits for the answer
	l, n := deliverDuringDiscard(t, ctx, nil)
	if n != 2 {
		t.Errorf("discarded %d, want 2", n)
	}
	want := []string{"1", "2", "3", "4", "5", "gap GAP_QUEUE_DROPPED"}
	if !slices.Equal(l.taken, want) || l.gaps[0].GetFirst() != 6 || l.gaps[0].GetEvents() != 2 {
		t.Errorf("the sink has %q with %v, want %q with a gap of 2", l.taken, l.gaps, want)
	}
	l.dropped(2)
}

func TestARefusalThatNamesMillionsIsReadOnce(t *testing.T) {
	t.Parallel()
	const records = wire.MaxBatchRecords
	l := newLane(t)
	l.add(records, records)
	l.refuse = func(b *wire.Batch) (*wire.ApplyResponse, error) {
		if bad := poisonous(b); len(bad) > 0 {
			return rejected(append(make([]uint64, 4<<20), bad...)), nil
		}
		return nil, nil
	}
	begun := time.Now()
	if err := l.live(); err != nil {
		t.Fatal(err)
	}
	l.check(records, records)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
