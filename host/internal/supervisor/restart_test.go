package supervisor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestCrashLoopIsVisibleAndRetriedSlowly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kinds []string
		want  time.Duration
	}{
		"a sink":       {[]string{"sink"}, time.Minute},
		"another kind": {[]string{"locator"}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failing := fakePlugin{kinds: c.kinds, configure: func() error { return errors.New("no cheese left") }}
				s := play(always(failing), 0)
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if state := s.board.state(); state != StateCrashLoop || len(s.started()) != loopAfter {
					t.Errorf("state %s after %d starts, want crash_loop after %d", state, len(s.started()), loopAfter)
				}
				status := s.board.snapshot()
				if status.GetNextStart() == 0 || !strings.Contains(status.GetLastError(), "no cheese left") || status.GetConsequence() == "" {
					t.Errorf("status = %v", status)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				starts := s.started()
				if gap := starts[len(starts)-1] - starts[len(starts)-2]; gap != c.want {
					t.Errorf("retried after %v, want %v", gap, c.want)
				}
				s.stop()
			})
		})
	}
}

func TestOnlyASinkIsTriedForEver(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"sink": StateCrashLoop, "ui": StateBlocked} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := play(always(fakePlugin{kinds: []string{kind}, configure: func() error { return errors.New("no cheese left") }}), 0)
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				status := s.board.snapshot()
				if status.GetState() != want || !strings.Contains(status.GetLastError(), "no cheese left") {
					t.Errorf("state %s after a day, want %s; last error %q", status.GetState(), want, status.GetLastError())
				}
				if n := len(s.started()); (n == parkAfter) != (want == StateBlocked) {
					t.Errorf("%d starts", n)
				}
				s.again <- struct{}{}
				synctest.Wait()
				if n := len(s.started()); want == StateBlocked && n != parkAfter+1 {
					t.Errorf("%d starts, a restart by hand included, want %d", n, parkAfter+1)
				}
				s.stop()
			})
		})
	}
}

func TestSinkThatWorksBetweenItsCrashesIsNotMadeToWaitAtTheCap(t *testing.T) {
	t.Parallel()
	var b backoff
	now := time.Unix(0, 0)
	for n := range loopAfter {
		delay, loop := b.failed(now, ending{ran: time.Minute, proved: true}, sinkDelay, 1)
		if n == loopAfter-1 && (!loop || delay != 8*time.Second) {
			t.Errorf("after %d failures: %v, loop %v, want 8 s and a loop", n+1, delay, loop)
		}
		now = now.Add(time.Minute)
	}
}

func TestFailuresAreForgottenOnlyAfterCalmThatFitsTheStart(t *testing.T) {
	t.Parallel()
	slow := ending{starting: 10 * time.Minute, ran: time.Hour, proved: true}
	var b backoff
	now := time.Unix(0, 0)
	_, _ = b.failed(now, slow, sinkDelay, 1)
	if delay, _ := b.failed(now.Add(time.Hour), slow, sinkDelay, 1); delay != 2*firstDelay {
		t.Errorf("an hour after a start of ten minutes: delay %v, want %v", delay, 2*firstDelay)
	}
	slow.ran = 2 * time.Hour
	if delay, _ := b.failed(now.Add(3*time.Hour), slow, sinkDelay, 1); delay != firstDelay/2 {
		t.Errorf("after two calm hours: delay %v, want %v", delay, firstDelay/2)
	}
}

func TestRestartForgetsFailuresAndDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failing := true
		s := play(func(int) (fakePlugin, error) {
			if failing {
				return fakePlugin{}, executable.ErrRefused
			}
			return fakePlugin{}, nil
		}, 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if state := s.board.state(); state != StateBlocked {
			t.Fatalf("state %s", state)
		}
		failing = false
		s.again <- struct{}{}
		synctest.Wait()
		if state := s.board.state(); state != StateRunning {
			t.Errorf("state %s right after Restart of a blocked plugin", state)
		}
		s.again <- struct{}{}
		synctest.Wait()
		if n := len(s.started()); n != 3 || s.board.state() != StateRunning {
			t.Errorf("%d starts, state %s: a running plugin was not restarted", n, s.board.state())
		}
		if status := s.board.snapshot(); status.GetRestarts() != 0 {
			t.Errorf("%d restarts are counted as failures", status.GetRestarts())
		}
		s.stop()
	})
}

func TestOnDemandPluginRunsOnlyWhileItIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := Spec{Name: "geoip", Path: "/nowhere", Directory: "/nowhere", Kinds: []string{"locator"}, OnDemand: true, IdleAfter: time.Minute}
		s := playAs(spec, always(fakePlugin{kinds: []string{"locator"}}), 0)
		host := &Supervisor{workers: []*worker{s.worker}}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(s.started()); n != 0 || s.board.state() != StateIdle || s.board.snapshot().GetConsequence() != "" {
			t.Fatalf("%d starts, state %s though nobody uses it", n, s.board.state())
		}
		used := false
		err := host.Use(t.Context(), "geoip", func(context.Context, *sdk.Client) error {
			used = true
			time.Sleep(10 * time.Minute) // longer than it may be idle
			synctest.Wait()
			if s.board.state() != StateRunning {
				t.Errorf("it is %s while it is used", s.board.state())
			}
			return nil
		})
		if err != nil || !used {
			t.Fatalf("use: %v, called %v", err, used)
		}
		time.Sleep(time.Minute + 2*healthEvery)
		synctest.Wait()
		if s.board.state() != StateIdle || len(s.started()) != 1 {
			t.Errorf("state %s after %d starts, long after the last use", s.board.state(), len(s.started()))
		}
		s.stop()
	})
}

func TestUnknownPluginOnDemandIsStartedOnceToTellWhatItIs(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"ui": StateIdle, "sink": StateRunning} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				spec := Spec{Name: "new", Path: "/nowhere", Directory: "/nowhere", OnDemand: true, IdleAfter: time.Minute}
				s := playAs(spec, always(fakePlugin{kinds: []string{kind}}), 0)
				synctest.Wait()
				if state := s.board.state(); state != StateRunning {
					t.Errorf("state %s at first", state)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if state, n := s.board.state(), len(s.started()); state != want || n != 1 {
					t.Errorf("state %s after an hour and %d starts, want %s", state, n, want)
				}
				s.stop()
			})
		})
	}
}

func TestUseSaysWhyAPluginCannotBeUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := Spec{Name: "geoip", Path: "/nowhere", Directory: "/nowhere", Kinds: []string{"locator"}, OnDemand: true}
		s := playAs(spec, func(int) (fakePlugin, error) { return fakePlugin{}, executable.ErrRefused }, 0)
		host := &Supervisor{workers: []*worker{s.worker}}
		never := func(context.Context, *sdk.Client) error { t.Error("it was called"); return nil }
		err := host.Use(t.Context(), "geoip", never)
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "blocked: "+executable.ErrRefused.Error()) {
			t.Errorf("error = %v", err)
		}
		if err := host.Use(t.Context(), "nobody", never); !errors.Is(err, ErrUnavailable) {
			t.Errorf("error = %v", err)
		}
		s.stop()
		if err := host.Use(t.Context(), "geoip", never); !errors.Is(err, ErrUnavailable) {
			t.Errorf("error after the end = %v", err)
		}
	})
}

func TestUseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(func(int) (fakePlugin, error) { return fakePlugin{}, errors.New("not yet") }, 0)
		host := &Supervisor{workers: []*worker{s.worker}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := host.Use(ctx, "fake", nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not yet") {
			t.Errorf("error = %v, want the deadline's and the plugin's", err)
		}
		s.stop()
	})
}

func TestEndsAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{}), 2)
		time.Sleep(time.Second)
		synctest.Wait()
		for range maxEnded + 5 {
			s.lived()[len(s.lived())-1].Kill()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
		}
		host := &Supervisor{workers: []*worker{s.worker}}
		log, err := host.Log("fake")
		if err != nil || len(log.GetEnded()) != maxEnded {
			t.Fatalf("%d ends are remembered, want %d, %v", len(log.GetEnded()), maxEnded, err)
		}
		last := log.GetEnded()[maxEnded-1]
		if last.GetSignal() != syscall.SIGKILL.String() || last.GetReason() == "" || last.GetPid() != 42 || last.GetEnded() <= last.GetStarted() {
			t.Errorf("the last end is %v", last)
		}
		if n := s.history.recent(time.Now()); n < maxEnded {
			t.Errorf("%d restarts within a day", n)
		}
		if n := s.history.recent(time.Now().Add(48 * time.Hour)); n != 0 {
			t.Errorf("%d restarts within the day after tomorrow", n)
		}
		if _, err := host.Log("nobody"); err == nil {
			t.Error("the log of a plugin that there is not")
		}
		s.stop()
	})
}

func TestStatesAreEnteredInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := play(always(fakePlugin{}), 1)
		time.Sleep(time.Second)
		synctest.Wait()
		s.stop()
		var states []string
		for _, e := range s.reported() {
			states = append(states, e.State)
		}
		want := []string{StateStarting, StateConfiguring, StateRunning, StateDraining, StateStopped}
		if !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

func TestHealthThatIsMissedOnceIsForgiven(t *testing.T) {
	t.Parallel()
	var p pulse
	p.slept = slept()
	for n, answered := range []bool{false, false, true, false, false} {
		if p.stopped(answered) {
			t.Errorf("hung at question %d", n)
		}
	}
	if !p.stopped(false) {
		t.Error("three misses in a row are forgiven")
	}
	p = pulse{misses: 2, slept: slept() - time.Hour}
	if p.stopped(false) {
		t.Error("what was missed while the machine slept counts")
	}
}

func TestConsequencesAreTold(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.Local)
	at := now.Add(-118 * time.Minute)
	for want, c := range map[string]struct {
		state *wire.PluginStatus
		room  time.Duration
	}{
		"history is not being saved since 10:02; 14,200 records wait, room for about 3 days": {
			&wire.PluginStatus{State: StateCrashLoop, Kinds: []string{"sink", "store"}, Queued: 14200}, 80 * time.Hour},
		"textlog gets nothing since 10:02; 1,234,567 records wait": {
			&wire.PluginStatus{Name: "textlog", State: StateBackoff, Kinds: []string{"sink"}, Queued: 1234567}, 0},
		"dash does not work since 10:02": {
			&wire.PluginStatus{Name: "dash", State: StateBlocked, Kinds: []string{"ui"}}, 0},
		"sqlite gets nothing since 10:02; 0 records wait": {
			&wire.PluginStatus{Name: "sqlite", State: StateConfiguring, Kinds: []string{"sink"}}, 0},
		"": {&wire.PluginStatus{State: StateIdle}, 0},
	} {
		if got := consequence(c.state, at, c.room, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, want := clock(at.Add(-48*time.Hour), now), "Nov 19 10:02"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := consequence(&wire.PluginStatus{State: StateStarting}, time.Time{}, 0, now); got != "" {
		t.Errorf("of a first start: %q", got)
	}
	for d, want := range map[time.Duration]string{
		36 * time.Hour: "1 day", 90 * time.Minute: "1 hour", 5 * time.Hour: "5 hours", 7 * time.Minute: "7 minutes",
	} {
		if got := about(d); got != want {
			t.Errorf("%v is about %s, want %s", d, got, want)
		}
	}
}

func TestTroubleBeginsWithTheFirstFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		dies := fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
			if mended.Load() {
				return acknowledge(b), nil
			}
			return nil, status.Error(codes.Unavailable, "gone")
		}}
		s := play(always(dies), 1)
		synctest.Wait()
		begun := clock(time.Now(), time.Now())
		for range 10 { // it runs for a moment now and then
			time.Sleep(time.Minute)
			synctest.Wait()
			if c := s.board.snapshot().GetConsequence(); c != "" && !strings.Contains(c, "since "+begun+";") {
				t.Fatalf("%q, want since %s", c, begun)
			}
		}
		mended.Store(true)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s.feed.Lag() != 0 {
			t.Fatalf("lag %d", s.feed.Lag())
		}
		mended.Store(false)
		s.lived()[len(s.lived())-1].Kill()
		synctest.Wait()
		if c, now := s.board.snapshot().GetConsequence(), clock(time.Now(), time.Now()); !strings.Contains(c, "since "+now) {
			t.Errorf("%q, want since %s", c, now)
		}
		s.stop()
	})
}

func TestBatchUnderWhichASinkDiesIsNamed(t *testing.T) {
	t.Parallel()
	for want, outcome := range map[uint64]error{
		3: status.Error(codes.Unavailable, "gone"), 0: status.Error(codes.Internal, "no"),
	} {
		inc := &incarnation{life: newFakeLife()}
		sink := trackedSink{fakePlugin{apply: func(context.Context, *wire.Batch) (*wire.ApplyResponse, error) { return nil, outcome }}, &inc.flight}
		_, err := sink.Apply(t.Context(), &wire.ApplyRequest{Batch: encode(3, 4)})
		if !errors.Is(err, outcome) {
			t.Errorf("error = %v", err)
		}
		if o := inc.obituary(time.Now(), err); o.GetBatch() != want {
			t.Errorf("after %v the suspect is %d, want %d", outcome, o.GetBatch(), want)
		}
	}
}
