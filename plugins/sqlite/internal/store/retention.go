package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	stepRows     = 2000 // rows that one step deletes: some 20 ms, during which a batch waits
	stepPause    = 50 * time.Millisecond
	janitorPause = 10 * time.Minute
	vacuumPages  = 500 // that one step gives back to the file system
)

// startJanitor starts what applies retention. It ends with [Store.stop].
func (s *Store) startJanitor() {
	if s.config.retention == 0 {
		return
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.wait.Go(func() { s.janitor(ctx) })
}

// janitor deletes what is too old, a step at a time with a rest after each, so that a batch never waits for long.
func (s *Store) janitor(ctx context.Context) {
	for {
		pause := stepPause
		more, err := s.step(ctx, time.Now().Add(-s.config.retention))
		if err != nil && ctx.Err() == nil {
			slog.Warn("sqlite: retention", "error", err)
		}
		if err != nil || !more {
			pause = janitorPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// step deletes at most stepRows rows of one table that ended before the cutoff. more is false when nothing is left.
func (s *Store) step(ctx context.Context, cutoff time.Time) (more bool, err error) {
	if err := s.take(ctx); err != nil {
		return false, err
	}
	defer s.give()
	if s.writer == nil {
		return false, nil // a damaged file is replaced by the next batch
	}
	return s.writer.prune(cutoff.UnixNano())
}

// The statements of retention, in an order that never leaves a reference to what is gone. Each deletes ?2 rows that
// ended before ?1. The interned ones rest on `seen`, see [interner].
func pruneStatements() []string {
	const old = " IN (SELECT id FROM "
	list := []string{
		`DELETE FROM flows WHERE id IN (SELECT f.id FROM windows w JOIN flows f ON f.window = w.id WHERE w.ended < ?1 LIMIT ?2)`,
		`DELETE FROM windows WHERE id IN (SELECT w.id FROM windows w WHERE w.ended < ?1
AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.window = w.id) LIMIT ?2)`,
		"DELETE FROM gaps WHERE id" + old + "gaps WHERE ended < ?1 LIMIT ?2)",
		"DELETE FROM notices WHERE id" + old + "notices WHERE time < ?1 LIMIT ?2)",
		"DELETE FROM events WHERE id" + old + "events WHERE time < ?1 LIMIT ?2)",
	}
	for _, table := range []string{"processes", "executables", "addresses", "texts"} {
		list = append(list, "DELETE FROM "+table+" WHERE id"+old+table+" WHERE seen < ?1 LIMIT ?2)")
	}
	return list
}

// prune does one step: the first statement that finds something is the step. Then it gives free pages back.
func (w *writer) prune(cutoff int64) (more bool, err error) {
	for i, statement := range pruneStatements() {
		n, err := w.pruneOne(statement, cutoff, i >= firstInterned)
		if err != nil {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return w.vacuum()
}

// firstInterned is where the interned tables begin in [pruneStatements].
const firstInterned = 5

// pruneOne runs one statement. For interned tables foreign keys are off meanwhile: `seen` proves that nothing refers to
// the rows, and to look for references would mean reading all flows for each.
func (w *writer) pruneOne(statement string, cutoff int64, interned bool) (n int64, err error) {
	if interned {
		if err := w.conn.script("PRAGMA foreign_keys = OFF"); err != nil {
			return 0, err
		}
		defer func() {
			if on := w.conn.script("PRAGMA foreign_keys = ON"); err == nil {
				err = on
			}
		}()
	}
	err = w.conn.transact(func() error {
		n, err = w.conn.exec(statement, cutoff, int64(stepRows))
		return err
	})
	if n > 0 || err != nil {
		w.in.forget()
	}
	return n, err
}

// vacuum gives some of the free pages back to the file system. A few stay, for the rows to come.
func (w *writer) vacuum() (more bool, err error) {
	free, _, err := w.conn.number("PRAGMA freelist_count")
	if err != nil || free < vacuumPages {
		return false, err
	}
	return true, w.conn.script(fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages))
}
