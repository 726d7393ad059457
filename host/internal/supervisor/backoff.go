package supervisor

import (
	"slices"
	"time"
)

// Delays between a failure and the next start.
const (
	firstDelay = 500 * time.Millisecond
	minDelay   = 50 * time.Millisecond // even the luckiest jitter does not spin
	sinkDelay  = 60 * time.Second      // the longest, of a sink: records wait for it
	otherDelay = 5 * time.Minute       // the longest, of any other plugin

	calm       = 5 * time.Minute // of running, or ten times what starting took, that make earlier failures forgotten
	loopWindow = 10 * time.Minute
	loopAfter  = 5  // failures within the window
	parkAfter  = 20 // failures in a row, of any other plugin than a sink: nothing waits for it
)

// backoff counts failures. The zero value is ready.
type backoff struct {
	row    int         // failures in a row
	recent []time.Time // of failures within the window
}

// failed returns how long to wait after an incarnation ended so, and whether the plugin is in a crash loop. longest is the
// longest delay; jitter is in [0, 1).
func (b *backoff) failed(now time.Time, end ending, longest time.Duration, jitter float64) (delay time.Duration, loop bool) {
	if end.proved && end.ran >= max(calm, 10*end.starting) {
		*b = backoff{}
	}
	b.row++
	b.recent = slices.DeleteFunc(b.recent, func(t time.Time) bool { return now.Sub(t) > loopWindow })
	b.recent = append(b.recent, now)
	loop = len(b.recent) >= loopAfter
	if loop && !end.proved {
		// It does nothing useful between its crashes: trying seldom costs nothing.
		return longest/2 + time.Duration(jitter*float64(longest/2)), true
	}
	limit := firstDelay
	for n := 1; n < b.row && limit < longest; n++ {
		limit *= 2
	}
	if b.row == 1 && end.ran > 0 {
		limit = firstDelay / 2 // it worked until now: a killed store should be back within a second
	}
	return max(minDelay, time.Duration(jitter*float64(min(limit, longest)))), loop
}
