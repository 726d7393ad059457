package supervisor

import (
	"context"
	"slices"
	"time"
)

// rank is when a plugin starts: those of a lower one first. They end in reverse, so that sinks, which have something to
// lose, are there for all that the others do.
type rank int

const (
	rankSink   rank = iota // and what may be one: records wait for it
	rankLookup             // answers about addresses and files
	rankView               // shows what the others have
	ranks
)

// Bounds of how long a rank may hold up the others.
const (
	turnTime  = 3 * time.Second // those that start later wait for it
	shareTime = 2 * time.Second // those that end later wait for it
)

// rankOf is the lowest rank of what a plugin is.
func rankOf(kinds []string) rank {
	switch {
	case len(kinds) == 0, slices.Contains(kinds, kindSink):
		return rankSink
	case slices.Contains(kinds, kindLocator), slices.Contains(kinds, kindVerdicts):
		return rankLookup
	}
	return rankView
}

func (w *worker) rank() rank { return rankOf(w.board.kinds()) }

// earlier are the workers of a lower rank.
func earlier(w *worker, all []*worker) []*worker {
	return slices.DeleteFunc(slices.Clone(all), func(other *worker) bool { return other.rank() >= w.rank() })
}

// awaitTurn waits, before the first start, until nobody of a lower rank is about to run any more: they came up, failed, or
// are not asked for. A plugin that hangs as it starts holds up the others for a moment only.
func (w *worker) awaitTurn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	for _, e := range w.earlier {
		for ctx.Err() == nil {
			changed := e.board.changing() // before looking: no change is missed
			if !e.coming() {
				break
			}
			select {
			case <-changed:
			case <-e.ended:
			case <-ctx.Done():
			}
		}
	}
	w.earlier = nil
}

// dismiss ends all workers, the highest rank first. Each rank but the last has its share of the budget, and is not waited
// for any longer: what hangs takes nothing from the sinks. It returns when the sinks were asked to end.
func (s *Supervisor) dismiss(budget context.Context) {
	all := s.all()
	for r := ranks - 1; r > rankSink; r-- {
		s.leave(budget, slices.DeleteFunc(slices.Clone(all), func(w *worker) bool { return w.rank() != r }))
	}
	for _, w := range all { // the sinks, and who turned out to be one meanwhile
		w.stop(budget)
	}
}

// leave ends the workers of one rank within its share of a budget.
func (s *Supervisor) leave(budget context.Context, some []*worker) {
	d := shareTime
	if deadline, ok := budget.Deadline(); ok {
		d = min(d, time.Until(deadline)/5)
	}
	share, cancel := context.WithTimeout(budget, d)
	defer cancel()
	for _, w := range some {
		w.stop(share)
	}
	for _, w := range some {
		select {
		case <-w.ended:
		case <-s.ended:
		case <-share.Done():
		}
	}
}
