package main

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// A difference between clocks that grows by more than this between two looks is no accident of reading them.
const clockTolerance = time.Second

// clocks is one look at three clocks, in ns.
type clocks struct {
	utc       int64
	boot      int64 // goes on while the machine sleeps
	monotonic int64 // does not
}

// readClocks looks at all three as if at once: a look that was interrupted is taken again, for a while.
func readClocks() clocks {
	var c clocks
	for range 10 {
		c = clocks{boot: clock(unix.CLOCK_BOOTTIME), monotonic: clock(unix.CLOCK_MONOTONIC), utc: clock(unix.CLOCK_REALTIME)}
		if clock(unix.CLOCK_BOOTTIME)-c.boot < int64(10*time.Millisecond) {
			break
		}
	}
	return c
}

func clock(id int32) int64 {
	var ts unix.Timespec
	// The call cannot fail: the clocks exist since Linux 2.6.39 and ts is ours.
	_ = unix.ClockGettime(id, &ts)
	return ts.Nano()
}

// clockWatch finds out that the machine slept, or that its clock was set. A clock that is slewed, as NTP does, drags all
// three along, and none of their differences. A zero one begins with its first look.
type clockWatch struct {
	mu   sync.Mutex
	last clocks
}

// clockGap is what a look found, with the words for it.
type clockGap struct {
	gap  *wire.Gap
	text string
}

// look compares the clocks with the look before.
func (w *clockWatch) look(now clocks) []clockGap {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.last
	if last.boot > now.boot { // two looks at once, and the later one was here first
		return nil
	}
	w.last = now
	if last == (clocks{}) {
		return nil
	}
	var found []clockGap
	if slept := time.Duration((now.boot - last.boot) - (now.monotonic - last.monotonic)); slept > clockTolerance {
		found = append(found, suspended(last, now, slept))
	}
	step := time.Duration((now.utc - last.utc) - (now.boot - last.boot))
	if step.Abs() > clockTolerance {
		found = append(found, stepped(last, now, step))
	}
	return found
}

func suspended(last, now clocks, slept time.Duration) clockGap {
	// As the clock stands now: a clock that was set meanwhile does not make the sleep longer.
	start := now.utc - (now.boot - last.boot)
	slept = slept.Round(time.Second)
	return clockGap{
		gap: &wire.Gap{
			Start: start, End: now.utc, Reason: wire.GapReason_GAP_SUSPENDED,
			Cause: fmt.Sprintf("the machine was suspended for %v", slept),
		},
		text: fmt.Sprintf("the machine was suspended for %v until %s", slept, local(now.utc)),
	}
}

func stepped(last, now clocks, step time.Duration) clockGap {
	due := last.utc + (now.boot - last.boot)
	way := "forward"
	if step < 0 {
		way = "back"
	}
	size := step.Abs().Round(time.Millisecond)
	return clockGap{
		gap: &wire.Gap{
			Start: min(due, now.utc), End: max(due, now.utc), Reason: wire.GapReason_GAP_CLOCK_STEPPED,
			Cause: fmt.Sprintf("the clock was set %s by %v", way, size),
		},
		text: fmt.Sprintf("the clock was set %s by %v, from %s to %s: times recorded before and after do not add up",
			way, size, local(due), local(now.utc)),
	}
}

// local is a time as the logs write it.
func local(utc int64) string { return time.Unix(0, utc).Format(time.DateTime) }
