package supervisor

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Bounds of what is remembered of a plugin's ends.
const (
	maxEnded    = 10
	maxTail     = 200  // lines
	maxTailLine = 512  // bytes of each
	maxRestarts = 4096 // times, within a day
	day         = 24 * time.Hour
)

// history remembers how the incarnations of a plugin ended, and when it was restarted.
type history struct {
	mu       sync.Mutex
	ended    []*wire.Incarnation // oldest first
	restarts []time.Time
}

// restarted notes a failure that is followed by another start.
func (h *history) restarted(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restarts = append(h.recentLocked(now), now)
	h.restarts = h.restarts[max(0, len(h.restarts)-maxRestarts):]
}

// recent is the number of restarts within a day.
func (h *history) recent(now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restarts = h.recentLocked(now)
	return len(h.restarts)
}

func (h *history) recentLocked(now time.Time) []time.Time {
	return slices.DeleteFunc(h.restarts, func(t time.Time) bool { return now.Sub(t) > day })
}

// add keeps an incarnation that has ended; it is the history's from now on.
func (h *history) add(i *wire.Incarnation) {
	for n, line := range i.Tail {
		i.Tail[n] = line[:min(len(line), maxTailLine)]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, i)
	h.ended = h.ended[max(0, len(h.ended)-maxEnded):]
}

// all are copies, oldest first.
func (h *history) all() []*wire.Incarnation {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*wire.Incarnation
	for _, i := range h.ended {
		all = append(all, proto.CloneOf(i))
	}
	return all
}

// Log is what the named plugin said last, and how its last incarnations, at most ten, ended. While it does not run, the
// lines are its last incarnation's. The caller owns the answer.
func (s *Supervisor) Log(name string) (*wire.PluginLogResponse, error) {
	w := s.find(name)
	if w == nil {
		return nil, unknown(name)
	}
	r := &wire.PluginLogResponse{Ended: w.history.all()}
	if current := w.current(); current != nil {
		r.Lines = current.Tail(maxTail)
	} else if n := len(r.Ended); n > 0 {
		r.Lines = slices.Clone(r.Ended[n-1].GetTail())
	}
	return r, nil
}
