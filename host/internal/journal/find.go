package journal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// batchAt copies the batch that holds the first wanted record, or makes the Gap that comes before it.
func (j *Journal) batchAt(w want) (b Batch, found bool, err error) {
	if w.hole.last > 0 && w.hole.first == w.after+1 {
		b, err = j.gapBatch(w.run, j.offer(w.hole), w.sink)
		return b, err == nil, err
	}
	err = j.view(func(tx *bolt.Tx) (err error) {
		b, found, err = w.find(tx)
		return err
	})
	if w.hole.last > 0 && err == nil && (!found || b.First > w.hole.first) {
		b, err = j.gapBatch(w.run, j.offer(w.hole), w.sink)
		return b, err == nil, err
	}
	if err == nil {
		return b, found, nil
	}
	if _, cerr := j.current(); errors.Is(cerr, ErrClosed) {
		return Batch{}, false, ErrClosed
	}
	return Batch{}, false, fmt.Errorf("read the journal: %w", err)
}

// find looks for the batch that holds the first wanted record, or else for the first one after it.
func (w want) find(tx *bolt.Tx) (b Batch, found bool, err error) {
	c := bucket(tx, nameBatches).Cursor()
	due := place{w.ordinal, w.after + 1}
	k, v := c.Seek(due.key())
	if !bytes.Equal(k, due.key()) { // a sink may stand in the middle of a batch
		if before, value := previous(c, k); w.holds(before, value, due) {
			k, v = before, value
		}
	}
	if k == nil {
		return b, false, nil
	}
	at, err := parsePlace(k)
	if err != nil {
		return b, false, err
	}
	h, raw, err := parseBatch(v)
	if err != nil || at.ordinal != w.ordinal {
		return b, false, err
	}
	b = Batch{Epoch: w.epoch, First: at.sequence, Last: h.last}
	if w.after >= at.sequence {
		b.Have = w.after
	}
	if checksum(raw) != h.sum {
		return b, false, &DamagedError{b.Epoch, b.First, b.Last, b.Have}
	}
	key := append(slices.Clone(k), w.sink...)
	if own := bucket(tx, nameRetries).Get(key); own != nil {
		if raw, err = unseal(nameRetries, key, own); err != nil {
			return b, false, &DamagedError{b.Epoch, b.First, b.Last, b.Have}
		}
	}
	b.Raw = slices.Clone(raw)
	return b, true, nil
}

// previous is the pair before k, where the cursor is; before the end when k is nil.
func previous(c *bolt.Cursor, k []byte) (key, value []byte) {
	if k == nil {
		return c.Last()
	}
	return c.Prev()
}

// holds tells whether a stored batch reaches as far as due.
func (w want) holds(k, v []byte, due place) bool {
	at, err := parsePlace(k)
	if err != nil || at.ordinal != due.ordinal {
		return false
	}
	h, _, err := parseBatch(v)
	return err == nil && h.last >= due.sequence
}

// deletePrefix deletes the keys that begin so.
func deletePrefix(b *bolt.Bucket, prefix []byte) error {
	c := b.Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
		if err := c.Delete(); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}

// deleteSuffix deletes the keys that are a place followed by a sink.
func deleteSuffix(b *bolt.Bucket, sink string) error {
	var keys [][]byte
	err := b.ForEach(func(k, _ []byte) error {
		if len(k) > 16 && string(k[16:]) == sink {
			keys = append(keys, slices.Clone(k))
		}
		return nil
	})
	for _, k := range keys {
		if err == nil {
			err = b.Delete(k)
		}
	}
	return err
}
