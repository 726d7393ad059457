package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// build makes a journal of what was saved, durable when it returns nil.
func (s *saved) build(path string, now time.Time) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an unfinished file: %w", err)
	}
	db, err := openDatabase(path)
	if err != nil {
		return err
	}
	err = guard(func() error { return db.Update(func(tx *bolt.Tx) error { return s.small(tx, now) }) })
	if err == nil {
		err = guard(func() error { return s.large(db) })
	}
	if err == nil {
		err = guard(func() error { return db.Update(func(tx *bolt.Tx) error { return writeState(tx, true, s.orphans) }) })
	}
	return errors.Join(err, guard(db.Close))
}

// small writes everything but batches.
func (s *saved) small(tx *bolt.Tx, now time.Time) error {
	if err := create(tx); err != nil {
		return err
	}
	errs := []error{bucket(tx, nameMeta).Put([]byte(keyFormat), []byte{format})}
	for ordinal, row := range s.epochs {
		errs = append(errs, putSealed(tx, nameEpochs, ordinalKey(ordinal), row.encode()))
	}
	for sink, stands := range s.cursors {
		errs = append(errs, putSealed(tx, nameCursors, []byte(sink), stands.encode()))
	}
	for _, p := range s.plain {
		if len(p.key) > 0 && len(p.key) <= bolt.MaxKeySize {
			errs = append(errs, putSealed(tx, p.bucket, p.key, p.value))
		}
	}
	slices.SortFunc(s.holes, func(a, b hole) int { return cmp.Compare(a.last, b.last) }) // of two with one key, the longer
	for _, h := range s.holes {
		if _, known := s.epochs[h.ordinal]; known {
			h.noted = now.UnixNano()
			errs = append(errs, putSealed(tx, nameHoles, h.key(), h.encode()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("store what was saved: %w", err)
	}
	return nil
}

// large copies the batches, a few at a time.
func (s *saved) large(db database) error {
	for order := s.order(); len(order) > 0; {
		err := db.Update(func(tx *bolt.Tx) error {
			b := bucket(tx, nameBatches)
			b.FillPercent = 0.9
			for size := 0; len(order) > 0 && size < compactStep; order = order[1:] {
				batch := s.batches[order[0]]
				raw := make([]byte, batch.size)
				if _, err := s.file.ReadAt(raw, batch.at); err != nil {
					return fmt.Errorf("read a batch again: %w", err)
				}
				if err := b.Put(order[0].key(), encodeBatch(batch.last, time.Unix(0, batch.time), raw)); err != nil {
					return fmt.Errorf("store a batch that was saved: %w", err)
				}
				size += batch.size
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
