package journal

import (
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// tidying is what one commit does beside its purpose.
type tidying struct {
	moved   map[*Cursor]place
	kept    map[uint64]uint64 // ordinal -> new first sequence in the file
	holes   holes
	dropped map[*Cursor]Dropped // to be added
}

// purge says what a commit has to delete.
type purge struct {
	bytes int64 // that must become free, whoever needs what lies there
	eager bool  // what everybody has goes at once, without slack
	holes holes // to be made
}

// tidy writes cursors, deletes what everybody has, and drops what is too much or too old. The caller holds appending, and
// calls done after the commit.
func (j *Journal) tidy(tx *bolt.Tx, p purge) (tidying, error) {
	before := j.holesNow()
	t := tidying{moved: j.moved(), kept: map[uint64]uint64{}, holes: slices.Clone(before), dropped: map[*Cursor]Dropped{}}
	for c, at := range t.moved {
		if err := putSealed(tx, nameCursors, []byte(c.name), standing{at, c.begin}.encode()); err != nil {
			return t, fmt.Errorf("store the cursor of %s: %w", c.name, err)
		}
	}
	keys, err := j.disposable(tx, p, &t)
	if err != nil {
		return t, err
	}
	for _, k := range keys {
		if err := deleteBatch(tx, k); err != nil {
			return t, err
		}
	}
	for _, h := range p.holes {
		t.holes = t.holes.replace(h)
	}
	t.holes = slices.DeleteFunc(t.holes, func(h hole) bool { return h.stale(j.now()) && j.passed(h) })
	return t, writeHoles(tx, before, t.holes)
}

// deleteBatch deletes a batch and what stands for it with a single sink.
func deleteBatch(tx *bolt.Tx, key []byte) error {
	if err := bucket(tx, nameBatches).Delete(key); err != nil {
		return fmt.Errorf("delete a batch: %w", err)
	}
	return deletePrefix(bucket(tx, nameRetries), key)
}

func (j *Journal) holesNow() holes {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.holes)
}

// passed tells that no sink comes upon a hole any more.
func (j *Journal) passed(h hole) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.cursors {
		if h.concerns(c.name, h.ordinal, c.haveLocked(h.ordinal)) {
			return false
		}
	}
	return true
}

// disposable finds the batches to delete, oldest first, and notes what follows from that.
func (j *Journal) disposable(tx *bolt.Tx, p purge, t *tidying) (keys [][]byte, err error) {
	now, limit := j.now(), j.acknowledged()
	slackOver, ageOver, freed := now.Add(-slack).UnixNano(), j.ageLimit(now), int64(0)
	c := bucket(tx, nameBatches).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		at, err := parsePlace(k)
		if err != nil {
			return nil, err
		}
		h, raw, err := parseBatch(v)
		if err != nil {
			return nil, err
		}
		full := freed < p.bytes
		if !full && len(keys) >= maxTrim {
			break
		}
		done := !limit.before(place{at.ordinal, h.last})
		switch {
		case done && (full || p.eager || h.time <= slackOver):
		case !done && full:
			j.drop(t, at, h, CauseSize)
		case !done && h.time < ageOver:
			j.drop(t, at, h, CauseAge)
		default:
			return keys, nil
		}
		keys = append(keys, slices.Clone(k)) // k lies in a page that the deletion moves
		freed += int64(len(k) + batchHeaderSize + len(raw))
		t.kept[at.ordinal] = h.last + 1
	}
	return keys, nil
}

// drop notes a batch that some sink lacks and will not get.
func (j *Journal) drop(t *tidying, at place, h batchHeader, cause Cause) {
	t.holes = t.holes.add(hole{ordinal: at.ordinal, first: at.sequence, last: h.last, cause: cause,
		from: h.time, to: h.time, noted: j.now().UnixNano()})
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.cursors {
		have := max(c.haveLocked(at.ordinal), at.sequence-1)
		if given, ok := j.holes.next(c.name, at.ordinal, have); ok && given.first == have+1 {
			have = given.last // it was not to get these
		}
		if have < h.last {
			t.dropped[c] = t.dropped[c].plus(cause, h.last-have)
		}
	}
}

// ageLimit is the time of append before which a batch is too old; 0 while nothing is.
func (j *Journal) ageLimit(now time.Time) int64 {
	elapsed := j.o.elapsed()
	step := now.Sub(j.lastNow) - (elapsed - j.lastElapsed)
	if j.lastNow.IsZero() || step < -chance/60 || step > chance/60 {
		j.chanceFrom = elapsed
	}
	j.lastNow, j.lastElapsed = now.Round(0), elapsed // without the monotonic part, which sleeps
	if elapsed-j.chanceFrom < chance {
		return 0
	}
	return now.Add(-j.o.MaxAge).UnixNano()
}

// acknowledged is the place that every sink has reached or given up; the end of time when there is no sink.
func (j *Journal) acknowledged() place {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.cursors) == 0 && j.orphaned {
		return place{} // whose records these are, will show
	}
	limit := place{ordinal: ^uint64(0)}
	for _, c := range j.cursors {
		if at := c.reachedLocked(); at.before(limit) {
			limit = at
		}
	}
	return limit
}

// done takes over into memory what was committed.
func (j *Journal) done(t tidying) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for c, at := range t.moved {
		c.saved = at
	}
	for i := range j.epochs {
		if kept, changed := t.kept[j.epochs[i].ordinal]; changed {
			j.epochs[i].kept = kept
		}
	}
	for c, d := range t.dropped {
		c.dropped = c.dropped.sum(d)
	}
	for i := range t.holes { // offered meanwhile
		h := &t.holes[i]
		h.offered = h.offered || slices.ContainsFunc(j.holes, func(o hole) bool {
			return o.offered && o.ordinal == h.ordinal && o.first == h.first && o.sink == h.sink
		})
	}
	j.holes = t.holes
}
