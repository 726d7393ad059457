package journal

import (
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// lazy is how late an acknowledgement may reach the disk.
	lazy = time.Second
	// slack is how long a batch stays after everybody has it: a sink may lose its last transaction in a power cut.
	slack = time.Minute
	// maxTrim bounds the batches deleted in one commit, which an Append may be waiting for.
	maxTrim = 256
)

// soilLocked tells the keeper that there is something to write.
func (j *Journal) soilLocked() {
	select {
	case j.dirty <- struct{}{}:
	default:
	}
}

// keep writes acknowledgements that no Append has taken along. It sleeps while there are none.
func (j *Journal) keep() {
	defer close(j.stopped)
	timer := time.NewTimer(lazy)
	defer timer.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-j.dirty:
		}
		timer.Reset(lazy)
		select {
		case <-j.stop:
			return
		case <-timer.C:
		}
		if err := j.save(); err != nil {
			j.mu.Lock()
			j.soilLocked() // again in a second; Append tells the caller of a full disk
			j.mu.Unlock()
		}
	}
}

// save commits moved cursors, if there are any.
func (j *Journal) save() error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil || len(j.moved()) == 0 {
		return nil // Close writes them itself, and a broken journal tells whoever appends
	}
	return j.commit(func(*bolt.Tx) error { return nil })
}

// moved lists the cursors that the file does not have where they are. The caller holds appending.
func (j *Journal) moved() map[*Cursor]place {
	j.mu.Lock()
	defer j.mu.Unlock()
	moved := map[*Cursor]place{}
	for _, c := range j.cursors {
		if c.at != c.saved {
			moved[c] = c.at
		}
	}
	return moved
}

// tidying is what one commit does beside its purpose.
type tidying struct {
	moved map[*Cursor]place
	kept  map[uint64]uint64 // ordinal -> new first sequence in the file
}

// tidy writes cursors and deletes what everybody has. The caller holds appending, and calls done after the commit.
func (j *Journal) tidy(tx *bolt.Tx) (tidying, error) {
	t := tidying{moved: j.moved(), kept: map[uint64]uint64{}}
	for c, at := range t.moved {
		if err := bucket(tx, nameCursors).Put([]byte(c.name), at.key()); err != nil {
			return t, fmt.Errorf("store the cursor of %s: %w", c.name, err)
		}
	}
	keys, err := j.disposable(tx, t.kept)
	if err != nil {
		return t, err
	}
	for _, k := range keys {
		if err := bucket(tx, nameBatches).Delete(k); err != nil {
			return t, fmt.Errorf("delete a batch: %w", err)
		}
	}
	return t, nil
}

// disposable finds the batches to delete and notes in kept what then is the first of their epoch.
func (j *Journal) disposable(tx *bolt.Tx, kept map[uint64]uint64) (keys [][]byte, err error) {
	limit, old := j.acknowledged(), j.now().Add(-slack).UnixNano()
	c := bucket(tx, nameBatches).Cursor()
	for k, v := c.First(); k != nil && len(keys) < maxTrim; k, v = c.Next() {
		at, err := parsePlace(k)
		if err != nil {
			return nil, err
		}
		h, _, err := parseBatch(v)
		if err != nil {
			return nil, err
		}
		if limit.before(place{at.ordinal, h.last}) || h.time > old {
			break
		}
		keys = append(keys, append([]byte{}, k...)) // k lies in a page that the deletion moves
		kept[at.ordinal] = h.last + 1
	}
	return keys, nil
}

// acknowledged is the place that every sink has reached; the end of time when there is none.
func (j *Journal) acknowledged() place {
	j.mu.Lock()
	defer j.mu.Unlock()
	limit := place{ordinal: ^uint64(0)}
	for _, c := range j.cursors {
		if c.at.before(limit) {
			limit = c.at
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
}
