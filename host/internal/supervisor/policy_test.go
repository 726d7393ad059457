package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestFailedStartsBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(func(int) (fakePlugin, error) { return fakePlugin{}, errors.New("no") }, 0)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		s.stop()
		want := []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond, 7500 * time.Millisecond}
		for i, at := range want {
			if s.started()[i] != at {
				t.Errorf("start %d after %v, want %v", i, s.started()[i], at)
			}
		}
		last := s.started()[len(s.started())-1] - s.started()[len(s.started())-2]
		if last != time.Minute {
			t.Errorf("the delay grows to %v, want a minute", last)
		}
	})
}

func TestWhatWaitsForAPluginThatNeverCameUpIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(func(int) (fakePlugin, error) { return fakePlugin{}, errors.New("no") }, 2)
		synctest.Wait()
		if waits := s.board.snapshot().GetQueued(); waits == 0 || waits != s.feed.Lag() {
			t.Errorf("%d records wait, want %d", waits, s.feed.Lag())
		}
		s.stop()
	})
}

func TestFirstCrashRestartsAtOnceAndLaterOnesBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{}), 1)
		crash := func() { s.lived()[len(s.lived())-1].Kill(); synctest.Wait() }
		time.Sleep(time.Second)
		synctest.Wait()
		crash()
		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		if len(s.started()) != 2 {
			t.Fatalf("%d starts, want 2 within 250 ms", len(s.started()))
		}
		crash()
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if len(s.started()) != 2 {
			t.Error("the second crash in a row did not wait")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if len(s.started()) != 3 {
			t.Fatalf("%d starts, want 3", len(s.started()))
		}
		time.Sleep(6 * time.Minute) // calm
		synctest.Wait()
		crash()
		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		if len(s.started()) != 4 {
			t.Errorf("%d starts, want 4: six calm minutes were not forgiven", len(s.started()))
		}
		s.stop()
	})
}

func TestEachCrashIsReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{}), 0)
		synctest.Wait()
		s.lived()[0].Kill()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		s.stop()
		crashes := 0
		for _, e := range s.reported() {
			if e.Error == "last words" && e.State == StateBackoff {
				crashes++
			}
		}
		if crashes != 1 {
			t.Errorf("%d crashes reported, want 1: %+v", crashes, s.reported())
		}
	})
}

func TestRefusedConfigurationIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{configure: func() error { return status.Error(codes.InvalidArgument, "retention: no") }}), 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.started()) != 1 || s.board.state() != StateBlocked {
			t.Errorf("%d starts, state %s", len(s.started()), s.board.state())
		}
		if said := s.board.lastError(); said != "configure: retention: no" {
			t.Errorf("it says %q", said)
		}
		s.stop()
	})
}

func TestSilentPluginIsDumpedAndReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := fakePlugin{health: func(ctx context.Context) (*wire.HealthResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}
		s := play(always(silent), 0)
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if len(s.started()) != 2 || !s.lived()[0].quit.Load() {
			t.Errorf("%d starts, quit %v", len(s.started()), s.lived()[0].quit.Load())
		}
		s.stop()
	})
}

func TestDownstreamTroubleDegradesAndDoesNotRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		s := play(always(fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
			if full.Load() {
				return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_RetryAfter{RetryAfter: &wire.RetryAfter{
					Delay: int64(time.Second), Reason: "disk is full", Downstream: true}}}, nil
			}
			return acknowledge(b), nil
		}}), 3)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s.board.state() != StateDegraded || len(s.started()) != 1 {
			t.Errorf("state %s after %d starts", s.board.state(), len(s.started()))
		}
		if c := s.board.snapshot().GetConsequence(); c == "" {
			t.Error("no consequence is told")
		}
		full.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s.board.state() != StateRunning || s.feed.Lag() != 0 {
			t.Errorf("state %s, lag %d", s.board.state(), s.feed.Lag())
		}
		degraded := 0
		for _, e := range s.reported() {
			if e.State == StateDegraded {
				degraded++
			}
		}
		if degraded != 1 {
			t.Errorf("reported %d times, want once", degraded)
		}
		s.stop()
	})
}

func TestApplyWithoutAnswerMakesASinkHung(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{apply: func(ctx context.Context, _ *wire.Batch) (*wire.ApplyResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}), 1)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(s.started()) < 2 || !s.lived()[0].quit.Load() {
			t.Errorf("%d starts", len(s.started()))
		}
		s.stop()
	})
}

func TestRefusedRecordsBecomeGapsAndTheSinkGoesOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refuse  int // times
		gaps    int // records replaced in the batch taken; -1: none was taken
		applies int
	}{
		"the named record": {1, 1, 2},
		"then all of them": {2, 2, 3},
		"even the Gaps":    {99, -1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				applies, gaps := 0, -1
				s := play(always(fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
					if b.GetFirst() == 1 {
						if applies++; applies <= c.refuse {
							return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rejected{
								Rejected: &wire.Rejected{Sequences: []uint64{2}, Reason: "odd"}}}, nil
						}
						gaps = 0
						for _, r := range b.GetRecords() {
							if r.GetGap().GetReason() == wire.GapReason_GAP_POISON && r.GetGap().GetFirst() == r.GetSequence() {
								gaps++
							}
						}
					}
					return acknowledge(b), nil
				}}), 2)
				time.Sleep(time.Second)
				synctest.Wait()
				var told []uint64
				for _, e := range s.reported() {
					told = append(told, e.Rejected...)
				}
				if want := []uint64{2, 1}[:min(2, c.refuse)]; !slices.Equal(told, want) {
					t.Errorf("told of %v, want %v", told, want)
				}
				if text := s.board.snapshot().GetConsequence(); !strings.Contains(text, "records were refused") {
					t.Errorf("consequence %q", text)
				}
				if applies != c.applies || gaps != c.gaps || s.feed.Lag() != 0 {
					t.Errorf("%d applies, %d gaps, lag %d", applies, gaps, s.feed.Lag())
				}
				s.stop()
			})
		})
	}
}

func TestRewindGoesBackAndEndlessRewindsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		asked := false
		s := play(always(fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
			got = append(got, b.GetFirst())
			if b.GetFirst() == 5 && !asked {
				asked = true
				return rewind(2), nil
			}
			return acknowledge(b), nil
		}}), 3)
		synctest.Wait()
		if fmt.Sprint(got) != "[1 3 5 3 5]" {
			t.Errorf("batches %v", got)
		}
		s.stop()
	})
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{apply: func(context.Context, *wire.Batch) (*wire.ApplyResponse, error) { return rewind(0), nil }}), 1)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(s.started()) < 2 {
			t.Error("a sink that rewinds for ever was not restarted")
		}
		s.stop()
	})
}

func TestWhatASinkAsksForAgainIsToldAsLostOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *stage
		asked := 0
		s = play(always(fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
			if asked++; asked == 2 || asked == 3 || asked == 5 {
				s.feed.lose(journal.Span{Epoch: testEpoch, First: 1, Last: 2})
				return rewind(2), nil
			}
			return acknowledge(b), nil
		}}), 0)
		s.feed.add(3)
		synctest.Wait()
		lost := 0
		for _, e := range s.events {
			lost += len(e.Sought.Lost)
		}
		if asked != 7 || lost != 2 {
			t.Errorf("asked %d times, told %d times, want once for what it asked twice in a row, and once later", asked, lost)
		}
		s.stop()
	})
}

func rewind(to uint64) *wire.ApplyResponse {
	return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rewind{Rewind: &wire.Rewind{
		Watermark: &wire.Watermark{Epoch: testEpoch[:], Sequence: to}}}}
}

func TestStopDeliversAndDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var drained atomic.Bool
		s := play(always(fakePlugin{drained: &drained, apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
			time.Sleep(10 * time.Millisecond)
			return acknowledge(b), nil
		}}), 50)
		time.Sleep(15 * time.Millisecond)
		synctest.Wait()
		s.stop()
		if s.feed.Lag() != 0 || !drained.Load() || s.board.state() != StateStopped {
			t.Errorf("lag %d, drained %v, state %s", s.feed.Lag(), drained.Load(), s.board.state())
		}
	})
}

func TestStopKeepsToItsBudgetAndDrainsAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var drained atomic.Bool
		s := play(always(fakePlugin{drained: &drained, apply: func(ctx context.Context, _ *wire.Batch) (*wire.ApplyResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}), 2)
		synctest.Wait()
		var cancel context.CancelFunc
		s.budget, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		s.stop()
		if took := time.Since(begun); took > 5*time.Second || !drained.Load() {
			t.Errorf("took %v, drained %v", took, drained.Load())
		}
	})
}

func TestOddAnswersBlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{apply: func(context.Context, *wire.Batch) (*wire.ApplyResponse, error) {
			return &wire.ApplyResponse{}, nil
		}}), 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.board.state() != StateBlocked || s.feed.Lag() != 2 {
			t.Errorf("state %s, lag %d", s.board.state(), s.feed.Lag())
		}
		s.stop()
	})
}
