package supervisor

import "time"

// Delays between a failure and the next start.
const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 60 * time.Second
	minDelay   = 50 * time.Millisecond // even the luckiest jitter does not spin
	calm       = 5 * time.Minute       // of running that make earlier failures forgotten
)

// backoff counts failures in a row. The zero value is ready.
type backoff struct{ failures int }

// failed returns how long to wait. ran says how long the plugin was running, proved whether it did something useful
// meanwhile, jitter is in [0, 1).
func (b *backoff) failed(ran time.Duration, proved bool, jitter float64) time.Duration {
	if ran >= calm && proved {
		b.failures = 0
	}
	b.failures++
	limit := firstDelay
	for n := 1; n < b.failures && limit < maxDelay; n++ {
		limit *= 2
	}
	if b.failures == 1 && ran > 0 {
		limit = firstDelay / 2 // it worked until now: a killed store should be back within a second
	}
	return max(minDelay, time.Duration(jitter*float64(min(limit, maxDelay))))
}
