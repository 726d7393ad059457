package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Dropped counts records that a sink did not get, by [Cause], since Open.
type Dropped struct {
	Size, Age, Discarded, Damaged uint64
}

// Total is the sum over all causes.
func (d Dropped) Total() uint64 { return d.Size + d.Age + d.Discarded + d.Damaged }

func (d Dropped) plus(cause Cause, n uint64) Dropped {
	switch cause {
	case CauseSize:
		d.Size += n
	case CauseAge:
		d.Age += n
	case CauseDiscarded:
		d.Discarded += n
	case CauseDamaged:
		d.Damaged += n
	}
	return d
}

func (d Dropped) sum(e Dropped) Dropped {
	return Dropped{d.Size + e.Size, d.Age + e.Age, d.Discarded + e.Discarded, d.Damaged + e.Damaged}
}

// SinkStats is the state of one sink.
type SinkStats struct {
	Records uint64    // that it still has to get, a Gap counting as one
	Bytes   uint64    // of the batches that hold them
	Oldest  time.Time // when the first of them was appended; zero when none waits in the file
	Dropped Dropped

	AsideBatches int // parts of batches set aside
	AsideRecords int
	AsideBytes   int64
	AsideDropped uint64 // records that were set aside and had to make room for others, since Open
}

// Stats is the state of the journal.
type Stats struct {
	Used    int64      // bytes of the file
	Live    int64      // bytes of it in use, the rest is free for what comes
	Quota   int64      // bytes that Used is kept below
	Full    *DiskError // what the disk says since it refused; nil: it takes everything
	Reserve bool       // the reserve is whole; without it, a full disk is dangerous
	Sinks   map[string]SinkStats
}

// sizes are the figures of the file as somebody last saw them.
type sizes struct {
	used, live int64
	reserve    bool
}

// Stats tells the state. It does not wait for the disk to take something: while an Append does, the sizes are those of an
// earlier call. It reads a page or so of every batch that waits.
func (j *Journal) Stats() (Stats, error) {
	if j.appending.TryLock() {
		j.measure()
		j.appending.Unlock()
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return Stats{}, ErrClosed
	}
	s := Stats{
		Used: j.sizes.used, Live: j.sizes.live, Reserve: j.sizes.reserve, Quota: j.o.MaxBytes, Full: j.full,
		Sinks: map[string]SinkStats{},
	}
	cursors := slices.Collect(maps.Values(j.cursors))
	j.mu.Unlock()
	for _, c := range cursors {
		sink, err := c.Stats()
		if err != nil {
			return s, err
		}
		s.Sinks[c.name] = sink
	}
	return s, nil
}

// measure takes the sizes anew. The caller holds appending.
func (j *Journal) measure() {
	if _, err := j.current(); errors.Is(err, ErrClosed) {
		return
	}
	now := sizes{used: j.fileSize(), live: j.live(), reserve: j.disk.whole}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sizes = now
}

// Stats tells the state of this sink. It reads a page or so of every batch that waits.
func (c *Cursor) Stats() (SinkStats, error) {
	c.j.mu.Lock()
	wanted, aside := c.wantedLocked(), c.j.aside[c.name]
	s := SinkStats{
		Records: c.lagLocked(), Dropped: c.dropped, AsideBatches: aside.batches, AsideRecords: aside.records,
		AsideBytes: aside.bytes, AsideDropped: aside.dropped,
	}
	c.j.mu.Unlock()
	err := c.j.view(func(tx *bolt.Tx) error {
		for _, w := range wanted {
			if err := w.measure(tx, &s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("measure the backlog of %s: %w", c.name, err)
	}
	return s, nil
}

// measure adds up the batches that hold what is wanted of one epoch.
func (w want) measure(tx *bolt.Tx, s *SinkStats) error {
	c := bucket(tx, nameBatches).Cursor()
	due := place{w.ordinal, w.after + 1}
	k, v := c.Seek(due.key())
	if !bytes.Equal(k, due.key()) {
		if before, value := previous(c, k); w.holds(before, value, due) {
			k, v = before, value
		} else {
			k, v = c.Seek(due.key())
		}
	}
	for ; k != nil; k, v = c.Next() {
		at, err := parsePlace(k)
		if err != nil {
			return err
		}
		if at.ordinal != w.ordinal {
			return nil
		}
		h, raw, err := parseBatch(v)
		if err != nil {
			return err
		}
		s.Bytes += uint64(len(raw))
		if s.Oldest.IsZero() {
			s.Oldest = time.Unix(0, h.time)
		}
	}
	return nil
}

// Lost tells how many records the sink will never get, by what a Gap says of the cause. Causes without any are left out.
func (s SinkStats) Lost() map[string]uint64 {
	lost := map[string]uint64{
		CauseSize.String(): s.Dropped.Size, CauseAge.String(): s.Dropped.Age, CauseDiscarded.String(): s.Dropped.Discarded,
		CauseDamaged.String(): s.Dropped.Damaged, "set aside, then no room": s.AsideDropped,
	}
	maps.DeleteFunc(lost, func(_ string, n uint64) bool { return n == 0 })
	return lost
}
