package main

import (
	"strings"
	"testing"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// after is a look some time after another: asleep is the part in which the machine slept, step is by how much the clock was
// set meanwhile.
func (c clocks) after(passed, asleep, step time.Duration) clocks {
	return clocks{utc: c.utc + int64(passed+step), boot: c.boot + int64(passed), monotonic: c.monotonic + int64(passed-asleep)}
}

func TestClocksTellSleepAndSteps(t *testing.T) {
	t.Parallel()
	first := clocks{utc: 1_700_000_000e9, boot: 500e9, monotonic: 400e9}
	suspended, stepped := wire.GapReason_GAP_SUSPENDED, wire.GapReason_GAP_CLOCK_STEPPED
	for name, test := range map[string]struct {
		passed, asleep, step time.Duration
		want                 []wire.GapReason
		start, end           int64 // of the last gap, relative to the first look's UTC
		cause                string
	}{
		"nothing":            {passed: 5 * time.Second},
		"a long look":        {passed: 10 * time.Hour},
		"slewed":             {passed: 5 * time.Second, step: 2500 * time.Microsecond},
		"a second":           {passed: 5 * time.Second, asleep: time.Second, step: -time.Second},
		"slept":              {passed: time.Hour, asleep: 3595 * time.Second, want: []wire.GapReason{suspended}, end: 3600e9, cause: "59m55s"},
		"set forward":        {passed: 5 * time.Second, step: time.Hour, want: []wire.GapReason{stepped}, start: 5e9, end: 3605e9, cause: "forward by 1h0m0s"},
		"set back":           {passed: 5 * time.Second, step: -time.Hour, want: []wire.GapReason{stepped}, start: -3595e9, end: 5e9, cause: "back by 1h0m0s"},
		"set while asleep":   {passed: time.Hour, asleep: time.Hour, step: time.Minute, want: []wire.GapReason{suspended, stepped}, start: 3600e9, end: 3660e9, cause: "1m0s"},
		"just over a second": {passed: 5 * time.Second, step: -1001 * time.Millisecond, want: []wire.GapReason{stepped}, start: 3999e6, end: 5e9, cause: "1.001s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w clockWatch
			if found := w.look(first); found != nil {
				t.Errorf("the first look found %v", found)
			}
			found := w.look(first.after(test.passed, test.asleep, test.step))
			if len(found) != len(test.want) {
				t.Fatalf("%v, want %v", found, test.want)
			}
			for i, f := range found {
				if f.gap.GetReason() != test.want[i] || f.gap.GetStart() > f.gap.GetEnd() || f.text == "" {
					t.Errorf("%v, want %v", f.gap, test.want[i])
				}
			}
			if len(found) == 0 {
				return
			}
			g := found[len(found)-1].gap
			if g.GetStart() != first.utc+test.start || g.GetEnd() != first.utc+test.end || !strings.Contains(g.GetCause(), test.cause) {
				t.Errorf("%v, want %d to %d, %q", g, first.utc+test.start, first.utc+test.end, test.cause)
			}
		})
	}
}

func TestOlderLookChangesNothing(t *testing.T) {
	t.Parallel()
	first := clocks{utc: 100e9, boot: 50e9, monotonic: 50e9}
	second := first.after(time.Second, 0, 0)
	var w clockWatch
	w.look(second)
	if found := w.look(first); found != nil || w.last != second {
		t.Errorf("found %v, last %v", found, w.last)
	}
}

func TestRealClocksRunTogether(t *testing.T) {
	t.Parallel()
	var w clockWatch
	for range 1000 {
		if found := w.look(readClocks()); found != nil {
			t.Fatalf("found %v", found)
		}
	}
}
