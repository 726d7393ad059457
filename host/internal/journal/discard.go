package journal

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Discard gives up what waits for the sink now, and tells how many records that is. The sink gets a Gap instead, in
// order; what is set aside for it stays. Errors: [ErrNoSink], and those of [Journal.Append].
func (j *Journal) Discard(sink string) (records uint64, err error) {
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil {
		return 0, err
	}
	c, wanted, records := j.backlog(sink)
	if c == nil {
		return 0, fmt.Errorf("discard the backlog of %.64q: %w", sink, ErrNoSink)
	}
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
	j.mu.Lock()
	defer j.mu.Unlock()
	c.dropped = c.dropped.plus(CauseDiscarded, records)
	return records, nil
}

// backlog is what waits for a sink; a nil Cursor says that there is none of this name.
func (j *Journal) backlog(sink string) (c *Cursor, wanted []want, records uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c = j.cursors[sink]; c == nil {
		return nil, nil, 0
	}
	return c, c.wantedLocked(), c.lagLocked()
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
