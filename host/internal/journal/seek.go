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
	// Lost lists what the sink no longer holds and the journal has deleted: the sink went back in time. What was deleted
	// before there was such a sink is not lost.
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
	c.calledLocked()
	p := plan(c.owedLocked(ws), c.begin, c.at, ws)
	c.at, c.floors = p.at, p.floors
	c.takenLocked()
	p.sought.Lost = c.withoutHolesLocked(p.sought.Lost)
	c.j.soilLocked()
	return p.sought
}

// owedLocked are the epochs with what the sink still has to get a Gap for.
func (c *Cursor) owedLocked(ws []sdk.Watermark) []run {
	epochs := slices.Clone(c.j.epochs)
	for i := range epochs {
		r, have := &epochs[i], uint64(0)
		for _, w := range ws {
			if w.Epoch == r.epoch {
				have = w.Sequence
			}
		}
		for h, ok := c.j.holes.next(c.name, r.ordinal, have); ok; h, ok = c.j.holes.next(c.name, r.ordinal, h.last) {
			r.owed = h.last
		}
	}
	return epochs
}

// withoutHolesLocked leaves out what the sink gets a Gap for in order.
func (c *Cursor) withoutHolesLocked(lost []Span) (rest []Span) {
	for _, s := range lost {
		i := slices.IndexFunc(c.j.epochs, func(r run) bool { return r.epoch == s.Epoch })
		for have := s.First - 1; have < s.Last; {
			h, ok := c.j.holes.next(c.name, c.j.epochs[i].ordinal, have)
			if !ok || h.first > s.Last {
				rest = append(rest, Span{s.Epoch, have + 1, s.Last})
				break
			}
			if h.first > have+1 {
				rest = append(rest, Span{s.Epoch, have + 1, h.first - 1})
			}
			have = h.last
		}
	}
	return rest
}

// planned is the outcome of plan.
type planned struct {
	at     place
	floors map[uint64]uint64
	sought Sought
}

// plan works out a Seek. epochs are in order, the last one being the current; begin is where the sink began.
func plan(epochs []run, begin, at place, ws []sdk.Watermark) planned {
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
	p.sought.Lost = p.lost(epochs, begin)
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
		if max(p.at.sequence, r.kept-1) < r.last || p.at.sequence < r.owed || i == len(epochs)-1 {
			return
		}
	}
}

// lost lists the records after the sink's newest watermark that neither side has. Older holes were reported before the
// sink took what is newer.
func (p *planned) lost(epochs []run, begin place) (spans []Span) {
	newest, said := uint64(0), false
	for ordinal := range p.floors {
		newest, said = max(newest, ordinal), true
	}
	for _, r := range epochs {
		if !said || r.ordinal < max(newest, begin.ordinal) {
			continue
		}
		first, last := p.floors[r.ordinal]+1, min(r.kept-1, r.last)
		if r.ordinal == begin.ordinal {
			first = max(first, begin.sequence+1)
		}
		if first <= last {
			spans = append(spans, Span{Epoch: r.epoch, First: first, Last: last})
		}
	}
	return spans
}
