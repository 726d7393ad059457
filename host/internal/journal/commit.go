package journal

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// view reads, and update writes, with bbolt's assertions turned into errors.
func (j *Journal) view(fn func(*bolt.Tx) error) error {
	return guard(func() error { return j.db.View(fn) })
}

func (j *Journal) update(fn func(*bolt.Tx) error) error {
	return guard(func() error { return j.db.Update(fn) })
}

// commit is update for what must be all or nothing. bbolt can fail after it has written the page that makes a
// transaction valid, when only the last fsync went wrong: then memory shows the new state and the disk may have either.
// Nobody can go on from there without risking a sequence given twice, so that the journal refuses to.
func (j *Journal) commit(fn func(*bolt.Tx) error) error {
	var id int
	var t tidying
	err := j.update(func(tx *bolt.Tx) error {
		id = tx.ID()
		if err := fn(tx); err != nil {
			return err
		}
		var err error
		t, err = j.tidy(tx)
		return err
	})
	if err == nil {
		j.done(t)
		return nil
	}
	visible := errors.Is(err, errDamaged)
	verr := j.view(func(tx *bolt.Tx) error {
		visible = visible || tx.ID() >= id
		return nil
	})
	if !visible && verr == nil {
		return err
	}
	broken := fmt.Errorf("%w: %w", ErrBroken, err)
	j.mu.Lock()
	j.broken = broken
	j.mu.Unlock()
	return broken
}
