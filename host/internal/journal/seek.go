package journal

import (
	"slices"

	"github.com/picosnitch/picosnitch/sdk"
)

// Span is a range of records of one epoch.
type Span struct {
	Epoch       sdk.Epoch
	First, Last uint64
}

// Sought is what Seek found out. Each entry is owed a Gap.
type Sought struct {
	// RolledBack lists what the sink holds and this journal never had, or no longer has: the journal went back in time
	// (restored, cloned, begun anew). Entries that the sink passed in an earlier run are not repeated.
	RolledBack []sdk.Watermark
	// Lost lists what the sink no longer holds and the journal has deleted: the sink went back in time.
	Lost []Span
}

// Seek moves the cursor to where the sink says that it is: it resumes after each watermark in every epoch known. Where
// the sink says nothing (it has no memory, or is new), the cursor's own place stands, so that nothing is passed over.
// ws has one entry per epoch, newest last.
func (c *Cursor) Seek(ws []sdk.Watermark) Sought {
	c.j.appending.Lock() // nothing may be deleted meanwhile
	defer c.j.appending.Unlock()
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	p := plan(c.j.epochs, c.at, ws)
	c.at, c.floors = p.at, p.floors
	c.j.soilLocked()
	return p.sought
}

// planned is the outcome of plan.
type planned struct {
	at     place
	floors map[uint64]uint64
	sought Sought
}

// plan works out a Seek. epochs are in order, the last one being the current.
func plan(epochs []run, at place, ws []sdk.Watermark) planned {
	p := planned{at: at, floors: map[uint64]uint64{}}
	p.sought.RolledBack = p.match(epochs, ws)
	for ordinal := range p.floors {
		if ordinal < p.at.ordinal {
			p.at.ordinal = ordinal
		}
	}
	if floor, said := p.floors[p.at.ordinal]; said {
		p.at.sequence = floor // the sink knows better than we do
	}
	p.advance(epochs)
	p.sought.Lost = p.lost(epochs)
	return p
}

// match fills floors and returns what this journal does not know. An unknown epoch that stands before a known one was
// reported when the known one began.
func (p *planned) match(epochs []run, ws []sdk.Watermark) (rolledBack []sdk.Watermark) {
	for _, w := range ws {
		i := slices.IndexFunc(epochs, func(r run) bool { return r.epoch == w.Epoch })
		if i < 0 {
			rolledBack = append(rolledBack, w)
			continue
		}
		rolledBack = nil
		r := epochs[i]
		p.floors[r.ordinal] = min(w.Sequence, r.last)
		if w.Sequence > r.last {
			rolledBack = append(rolledBack, w)
		}
	}
	return rolledBack
}

// advance passes epochs that are done with, so that their batches can be deleted.
func (p *planned) advance(epochs []run) {
	for i, r := range epochs {
		if r.ordinal < p.at.ordinal {
			continue
		}
		if r.ordinal > p.at.ordinal {
			p.at = place{r.ordinal, p.floors[r.ordinal]}
		}
		if max(p.at.sequence, r.kept-1) < r.last || i == len(epochs)-1 {
			return
		}
	}
}

// lost lists the records after the sink's newest watermark that neither side has. Older holes were reported before the
// sink took what is newer.
func (p *planned) lost(epochs []run) (spans []Span) {
	newest, said := uint64(0), false
	for ordinal := range p.floors {
		newest, said = max(newest, ordinal), true
	}
	for _, r := range epochs {
		if !said || r.ordinal < newest {
			continue
		}
		if first, last := p.floors[r.ordinal]+1, min(r.kept-1, r.last); first <= last {
			spans = append(spans, Span{Epoch: r.epoch, First: first, Last: last})
		}
	}
	return spans
}
