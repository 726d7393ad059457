package supervisor

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestASinkThatWaitsForItsServerIsAskedEverLessOften(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		asks        time.Duration
		least, most int           // times asked in an hour
		longest     time.Duration // between two
	}{
		"asks for nothing":       {0, 55, 90, maxRetry},
		"asks for next to none":  {time.Millisecond, 55, 90, maxRetry},
		"asks for half a minute": {30 * time.Second, 119, 121, 30 * time.Second},
		"asks for a day":         {24 * time.Hour, 59, 61, maxRetry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var times []time.Time
				var back atomic.Bool
				s := play(always(fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
					if back.Load() {
						return acknowledge(b), nil
					}
					times = append(times, time.Now())
					return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_RetryAfter{RetryAfter: &wire.RetryAfter{
						Delay: int64(c.asks), Reason: "no route to the server", Downstream: true}}}, nil
				}}), 1)
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := len(times); n < c.least || n > c.most {
					t.Errorf("asked %d times in an hour, want %d to %d", n, c.least, c.most)
				}
				for i := 2; i < len(times); i++ {
					if now, before := times[i].Sub(times[i-1]), times[i-1].Sub(times[i-2]); now < before || now > c.longest {
						t.Errorf("asked after %v and then after %v", before, now)
					}
				}
				status := s.board.snapshot()
				if want := "waits for what is behind it: no route to the server"; status.GetLastError() != want {
					t.Errorf("it says %q, want %q", status.GetLastError(), want)
				}
				if s.board.state() != StateDegraded || len(s.started()) != 1 || !strings.Contains(status.GetConsequence(), "since") {
					t.Errorf("state %s after %d starts: %q", s.board.state(), len(s.started()), status.GetConsequence())
				}
				back.Store(true)
				time.Sleep(maxRetry)
				synctest.Wait()
				if s.board.state() != StateRunning || s.feed.Lag() != 0 {
					t.Errorf("state %s, lag %d with the server back", s.board.state(), s.feed.Lag())
				}
				s.stop()
			})
		})
	}
}
