package store

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"
)

const (
	stepRows     = 2000 // rows that one step deletes: some 20 ms, during which a batch waits
	stepPause    = 50 * time.Millisecond
	janitorPause = time.Minute
	vacuumPages  = 500 // that one step gives back to the file system
)

// startJanitor starts what applies retention, if any is asked for. It ends with ctx.
func (s *Store) startJanitor(ctx context.Context) {
	if s.config.retention == 0 && s.config.maxBytes == 0 {
		return
	}
	s.wait.Go(func() { s.janitor(ctx) })
}

// janitor deletes what is too old, a step at a time with a rest after each, so that a batch never waits for long.
func (s *Store) janitor(ctx context.Context) {
	for {
		err := s.round(ctx, func() error { return pause(ctx, stepPause) })
		if err != nil && ctx.Err() == nil {
			slog.Warn("sqlite: retention", "error", err)
		}
		if pause(ctx, janitorPause) != nil {
			return
		}
	}
}

// pause waits, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// round does all that retention asks for now; rest is called between its steps.
func (s *Store) round(ctx context.Context, rest func() error) error {
	cutoff, err := s.cutoff(ctx)
	if err != nil {
		return err
	}
	for {
		more, err := s.step(ctx, cutoff)
		if err != nil || !more {
			return err
		}
		if err := rest(); err != nil {
			return err
		}
	}
}

// cutoff is the time before which nothing is to be kept: the later one of what days and bytes ask for.
func (s *Store) cutoff(ctx context.Context) (time.Time, error) {
	cutoff := time.Unix(0, math.MinInt64+1)
	if s.config.retention > 0 {
		cutoff = s.now().Add(-s.config.retention)
	}
	if s.config.maxBytes == 0 {
		return cutoff, nil
	}
	if err := s.take(ctx); err != nil {
		return cutoff, err
	}
	defer s.give()
	if s.writer == nil {
		return cutoff, nil
	}
	size, err := s.writer.cutoffOfSize(s.config.maxBytes)
	if err == nil && size > cutoff.UnixNano() {
		cutoff = time.Unix(0, size)
	}
	return cutoff, err
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
	more, err = s.writer.prune(cutoff.UnixNano(), s.now().Add(-keepMinutes).UnixNano())
	if corrupt(err) && s.daemon() {
		return false, s.replace(ctx, err) // else it would stay for ever, and nothing go
	}
	return more, err
}

// cutoffOfSize is the time up to which flows have to go so that the file has no more than some bytes, about: what a flow
// takes is estimated, and the next round looks again. It is the earliest time there is when the file is small enough.
func (w *writer) cutoffOfSize(most int64) (int64, error) {
	const none = math.MinInt64 + 1
	used, _, err := w.conn.number("SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)")
	if err != nil {
		return none, err
	}
	page, _, err := w.conn.number("PRAGMA page_size")
	if err != nil || used*page <= most {
		return none, err
	}
	first, _, err := w.conn.number("SELECT coalesce(min(id), 0) FROM flows")
	if err != nil || first == 0 {
		return none, err
	}
	last, _, err := w.conn.number("SELECT max(id) FROM flows")
	if err != nil {
		return none, err
	}
	excess := float64(used*page-most) / float64(used*page)
	until := first + int64(excess*float64(last-first+1))
	ended, found, err := w.conn.number(`SELECT w.ended FROM flows f JOIN windows w ON w.id = f.window WHERE f.id > ? ORDER BY f.id LIMIT 1`, until)
	if err != nil || !found {
		return none, err
	}
	return ended, nil
}

// deletion is one statement of retention: it deletes ?2 rows that ended before ?1. without says that references are
// not looked at: to look for them would mean reading all flows for each row, and `seen` proves that there are none.
type deletion struct {
	sql     string
	without bool
}

// deletions are the statements of retention, in an order that never leaves a reference to what is gone. Roll-ups go
// before the rows that they sum up: they do not count any more, see [writer.raise].
func deletions() []deletion {
	const old = " IN (SELECT id FROM "
	var list []deletion
	for _, f := range families() {
		key := "width, bucket, " + strings.Join(f.keys, ", ")
		for _, width := range f.widths() {
			floor := "floor"
			if width == minuteWidth {
				floor = "minutes"
			}
			list = append(list, deletion{fmt.Sprintf("DELETE FROM %s WHERE (%s) IN (SELECT %s FROM %s WHERE width = %d AND bucket < "+
				"(SELECT value / 1000000000 FROM state WHERE name = '%s' AND ?1 = ?1) LIMIT ?2)", f.table, key, key, f.table, width, floor), false})
		}
	}
	list = append(list,
		deletion{`DELETE FROM flows WHERE id IN (SELECT f.id FROM windows w JOIN flows f ON f.window = w.id WHERE w.ended < ?1 LIMIT ?2)`, false},
		deletion{`DELETE FROM windows WHERE id IN (SELECT w.id FROM windows w WHERE w.ended < ?1
AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.window = w.id) LIMIT ?2)`, false},
		deletion{"DELETE FROM gaps WHERE id" + old + "gaps WHERE ended < ?1 LIMIT ?2)", false},
		deletion{"DELETE FROM notices WHERE id" + old + "notices WHERE time < ?1 LIMIT ?2)", false},
		deletion{"DELETE FROM events WHERE id" + old + "events WHERE time < ?1 LIMIT ?2)", false})
	for _, table := range []string{"actors", "processes", "programs", "remotes", "traits", "executables", "addresses", "texts"} {
		list = append(list, deletion{"DELETE FROM " + table + " WHERE id" + old + table + " WHERE seen < ?1 LIMIT ?2)", true})
	}
	return list
}

// pass is one way through the statements of retention.
type pass struct {
	cutoff int64
	left   []deletion // the first one has not come to its end yet; nil: the pass is over
}

// prune does one step of a pass: the next statement that finds something is the step. Then it gives free pages back.
func (w *writer) prune(cutoff, minutes int64) (more bool, err error) {
	if w.pass.left == nil || w.pass.cutoff != cutoff {
		if err := w.raise(cutoff, max(cutoff, minutes)); err != nil {
			return false, err
		}
		w.pass = pass{cutoff: cutoff, left: deletions()}
	}
	for len(w.pass.left) > 0 {
		n, err := w.pruneOne(w.pass.left[0], cutoff)
		if err != nil {
			w.pass.left = nil
			return false, err
		}
		if n > 0 {
			return true, nil
		}
		w.pass.left = w.pass.left[1:]
	}
	if more, err = w.vacuum(); !more {
		w.pass.left = nil
	}
	return more, err
}

// raise notes from when on rows are complete. Queries rely on roll-ups only from there on, and read what is older row by
// row: so they never see a sum of rows of which some are deleted already.
func (w *writer) raise(floor, minutes int64) error {
	return w.conn.transact(func() error {
		for name, value := range map[string]int64{"floor": floor, "minutes": minutes} {
			if _, err := w.conn.exec("UPDATE state SET value = ?1 WHERE name = ?2 AND value < ?1", value, name); err != nil {
				return fmt.Errorf("note what is complete: %w", err)
			}
		}
		return nil
	})
}

// pruneOne runs one statement.
func (w *writer) pruneOne(d deletion, cutoff int64) (n int64, err error) {
	run := func() error {
		n, err = w.conn.exec(d.sql, cutoff, int64(stepRows))
		return err
	}
	if d.without {
		err = withoutForeignKeys(w.conn, run)
	} else {
		err = w.conn.transact(run)
	}
	if ids := d.without || strings.HasPrefix(d.sql, "DELETE FROM windows"); err != nil || n > 0 && ids {
		w.in.forget() // what it knows may be gone
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
