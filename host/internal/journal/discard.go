package journal

import (
	"context"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// given is what Discard gave up of one epoch, until Next hands out the Gap for it. The sink may still take some of it: a
// batch that it holds already, or has stored without a word. That is then no loss.
type given struct {
	ordinal    uint64
	have, last uint64 // records after have, up to last
	before     holes  // those of the time: a Gap that waited counts as one record
	records    uint64 // that are still counted as discarded
}

// Discard gives up what waits for the sink now, and tells how many records that is. The sink gets a Gap instead, in
// order; what is set aside for it stays. A call to the sink that is under way may end first, as far as ctx allows; if it
// goes on, its records are not given up. What a sink that ended in a call turns out to hold all the same is in time: the
// Gap, and what Stats counts as discarded, leave it out. Errors: [ErrNoSink], and those of [Journal.Append].
func (j *Journal) Discard(ctx context.Context, sink string) (records uint64, err error) {
	j.awaitCall(ctx, sink)
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil {
		return 0, err
	}
	c, wanted, up := j.giveUp(sink)
	if c == nil {
		return 0, fmt.Errorf("discard the backlog of %.64q: %w", sink, ErrNoSink)
	}
	defer func() { records = c.settle(up, err == nil) }()
	var made holes
	for _, w := range wanted {
		from, to, err := j.span(w.run, w.after)
		if err != nil {
			return 0, fmt.Errorf("discard the backlog of %s: %w", sink, err)
		}
		made = append(made, hole{ordinal: w.ordinal, first: w.after + 1, last: max(w.last, w.hole.last),
			cause: CauseDiscarded, from: from, to: to, noted: j.now().UnixNano(), sink: sink, offered: true})
	}
	if err := j.commit(purge{holes: made}, nothing); err != nil {
		return 0, fmt.Errorf("discard the backlog of %s: %w", sink, err)
	}
	return 0, nil // settle says how many
}

// giveUp is what waits for a sink, from now on counted as discarded: before the commit that makes it so, since the sink may
// take it meanwhile. A nil Cursor says that there is none of this name.
func (j *Journal) giveUp(sink string) (c *Cursor, wanted []want, up []*given) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c = j.cursors[sink]; c == nil {
		return nil, nil, nil
	}
	wanted = c.outsideCallLocked(c.wantedLocked())
	before := slices.Clone(j.holes)
	for _, w := range wanted {
		g := &given{ordinal: w.ordinal, have: w.after, last: max(w.last, w.hole.last), before: before}
		g.records = g.before.due(sink, g.ordinal, g.have, g.last)
		c.dropped = c.dropped.plus(CauseDiscarded, g.records)
		up = append(up, g)
	}
	c.given = append(c.given, up...)
	return c, wanted, up
}

// settle tells how many records were discarded in the end; none, if the commit went wrong.
func (c *Cursor) settle(up []*given, done bool) (records uint64) {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	for _, g := range up {
		records += g.records
	}
	if done {
		return records
	}
	c.dropped.Discarded -= records
	c.given = slices.DeleteFunc(c.given, func(g *given) bool { return slices.Contains(up, g) })
	return 0
}

// Withdrawn tells whether records that Next handed out earlier were discarded since: who still has them asks Next anew.
func (c *Cursor) Withdrawn(s Span) bool {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	return c.withdrawnLocked(s)
}

func (c *Cursor) withdrawnLocked(s Span) bool {
	ordinal, known := c.j.ordinalLocked(s.Epoch)
	return known && slices.ContainsFunc(c.given, func(g *given) bool {
		return g.ordinal == ordinal && g.have < s.Last && s.First <= g.last
	})
}

// takenLocked takes what the sink has after all out of what was discarded. It follows every move of the cursor.
func (c *Cursor) takenLocked() {
	c.given = slices.DeleteFunc(c.given, func(g *given) bool {
		have := min(c.haveLocked(g.ordinal), g.last)
		if have <= g.have {
			return false
		}
		left := g.before.due(c.name, g.ordinal, have, g.last)
		c.dropped.Discarded -= g.records - min(left, g.records)
		g.have, g.records = have, min(left, g.records)
		return have == g.last
	})
}

// handed forgets what a Gap now tells the sink of: what comes after is acknowledged with it.
func (c *Cursor) handed(gap Batch) {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	ordinal, known := c.j.ordinalLocked(gap.Epoch)
	c.given = slices.DeleteFunc(c.given, func(g *given) bool { return known && g.ordinal == ordinal && g.last <= gap.Last })
}

// span tells when the first batch that holds records after a sequence, and the last of the epoch, were appended; zero when
// the file has none.
func (j *Journal) span(r run, after uint64) (from, to int64, err error) {
	err = j.view(func(tx *bolt.Tx) error {
		c := bucket(tx, nameBatches).Cursor()
		for k, v := c.Seek(place{r.ordinal, after + 1}.key()); k != nil; k, v = c.Next() {
			at, err := parsePlace(k)
			if err != nil {
				return err
			}
			if at.ordinal != r.ordinal {
				return nil
			}
			h, _, err := parseBatch(v)
			if err != nil {
				return err
			}
			if from == 0 {
				from = h.time
			}
			to = h.time
		}
		return nil
	})
	return from, to, err
}
