package supervisor

import (
	"context"
	"time"
)

// How often the names of peers are looked up: until all are known, and then.
const (
	lookUpSoon  = 5 * time.Second
	lookUpAgain = time.Minute
)

// guard watches, beside an incarnation, over what only the host can bound: the disk, and the addresses of its peers.
type guard struct {
	disk    *disk    // nil: no bound
	network *network // nil: no list of peers
	board   *board
}

// run returns when ctx is done, with nil, or with the reason why the plugin must be stopped.
func (g *guard) run(ctx context.Context) error {
	measure, lookUp := time.NewTimer(measureSoon), time.NewTimer(lookUpSoon)
	defer measure.Stop()
	defer lookUp.Stop()
	if g.disk == nil {
		measure.Stop()
	}
	if g.network == nil {
		lookUp.Stop()
	}
	before, looked := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-measure.C:
			used, err := g.disk.check(ctx)
			if err != nil {
				return err
			}
			measure.Reset(nextMeasure(used, used-before, time.Since(looked), g.disk.limitMB))
			before, looked = used, time.Now()
		case <-lookUp.C:
			lookUp.Reset(g.lookUp(ctx))
		}
	}
}

// nextMeasure is when to look again at what grew by some bytes since the last look: when half of what is left could be
// used up, but not all the time.
func nextMeasure(used, grown int64, since time.Duration, limitMB int) time.Duration {
	if grown <= 0 || since <= 0 {
		return measureEvery
	}
	left := float64(int64(limitMB)<<20 - used)
	until := time.Duration(left / 2 / float64(grown) * float64(since))
	return min(max(until, measureSoon), measureEvery)
}

// lookUp tells of the first of several failures, and says when to try again.
func (g *guard) lookUp(ctx context.Context) time.Duration {
	err := g.network.refresh(ctx)
	if err == nil || ctx.Err() != nil {
		g.network.told = false
		return lookUpAgain
	}
	if !g.network.told {
		g.network.told = true
		g.board.enter(g.board.state(), Event{Error: bounded(err.Error(), 1024)})
	}
	return lookUpSoon
}
