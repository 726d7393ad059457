package journal

import (
	"context"
	"slices"

	"github.com/picosnitch/picosnitch/sdk"
)

// call is a sink being given records of an epoch, up to last.
type call struct {
	ordinal, last uint64
	over          chan struct{} // closed at its end
}

// Call says that the sink is about to be given records that Next handed out. False: they were discarded since, and who has
// them asks Next anew. Until the sink has answered, which Ack, Called or Seek says, they are not discarded.
func (c *Cursor) Call(s Span) bool {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	c.calledLocked()
	ordinal, known := c.j.ordinalLocked(s.Epoch)
	if !known || c.withdrawnLocked(s) {
		return false
	}
	c.call = &call{ordinal: ordinal, last: s.Last, over: make(chan struct{})}
	return true
}

// Called says that the sink did not take what it was given.
func (c *Cursor) Called() {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	c.calledLocked()
}

func (c *Cursor) calledLocked() {
	if c.call != nil {
		close(c.call.over)
		c.call = nil
	}
}

// awaitCall waits until a call to the sink that is under way is over.
func (j *Journal) awaitCall(ctx context.Context, sink string) {
	j.mu.Lock()
	c := j.cursors[sink]
	if c == nil || c.call == nil {
		j.mu.Unlock()
		return
	}
	over := c.call.over
	j.mu.Unlock()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// outsideCallLocked leaves out what the sink is being given, and what comes before that.
func (c *Cursor) outsideCallLocked(wanted []want) []want {
	if c.call == nil {
		return wanted
	}
	for i := range wanted {
		if w := &wanted[i]; w.ordinal == c.call.ordinal {
			w.after = max(w.after, c.call.last)
		}
	}
	return slices.DeleteFunc(wanted, func(w want) bool {
		return w.ordinal < c.call.ordinal || max(w.last, w.hole.last) <= w.after
	})
}

// ordinalLocked finds an epoch by its name.
func (j *Journal) ordinalLocked(epoch sdk.Epoch) (ordinal uint64, known bool) {
	i := slices.IndexFunc(j.epochs, func(r run) bool { return r.epoch == epoch })
	if i < 0 {
		return 0, false
	}
	return j.epochs[i].ordinal, true
}
