package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// Kinds of rows of flows.
const (
	kindSocket = 1 // counted at the socket
	kindExec   = 2
	kindOther  = 3 // counted at another layer, would count bytes twice
)

// writer stores batches over the one connection that writes. Whoever uses it holds [Store.turn].
type writer struct {
	conn   *conn
	in     *interner
	sequel sdk.Sequel
	now    func() time.Time // see [known]
	pass   pass             // of retention
	origin string           // of the rows, when they are imported: the name of the file
	rollUp bool             // off only where a measurement asks what roll-ups cost
}

func newWriter(c *conn, now func() time.Time) *writer {
	return &writer{conn: c, in: newInterner(c), now: now, rollUp: true}
}

// apply stores a batch and its watermark in one transaction, or nothing. ctx is looked at between records.
func (w *writer) apply(ctx context.Context, b *sdk.Batch) error {
	err := w.conn.transact(func() error {
		epoch, have, err := w.epoch(b)
		if err != nil {
			return err
		}
		if store, err := w.sequel.Decide(b, have); !store {
			return err
		}
		return w.store(ctx, b, epoch, have)
	})
	if err != nil {
		w.in.forget()
		return err
	}
	w.sequel.Stored()
	return nil
}

// epoch finds the batch's epoch, adding it if it is new, and what is held of it.
func (w *writer) epoch(b *sdk.Batch) (id int64, have uint64, err error) {
	row := make([]driver.Value, 2)
	found, err := w.conn.row("SELECT id, sequence FROM epochs WHERE host_id = ? AND epoch = ?", row,
		blob(b.GetHostId()), b.Epoch[:])
	if err != nil {
		return 0, 0, fmt.Errorf("read watermark: %w", err)
	}
	if found {
		id, _ = row[0].(int64)
		sequence, _ := row[1].(int64)
		return id, uint64(sequence), nil
	}
	id, err = w.conn.insert("INSERT INTO epochs (host_id, epoch, sequence, chain, origin) VALUES (?, ?, 0, zeroblob(32), ?)",
		blob(b.GetHostId()), b.Epoch[:], sdk.EscapeString(w.origin))
	if err != nil {
		return 0, 0, fmt.Errorf("add epoch: %w", err)
	}
	return id, 0, nil
}

func (w *writer) store(ctx context.Context, b *sdk.Batch, epoch int64, have uint64) error {
	l, err := w.load(b, epoch)
	if err != nil {
		return err
	}
	if g := sdk.Missing(b, have, name); g != nil {
		_, gaps, _ := shelves()
		if _, err := w.keep(gaps, nil, &wire.Record{Kind: &wire.Record_Gap{Gap: g}}); err != nil {
			return err
		}
	}
	for i, r := range b.GetRecords() {
		if i%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.record(l, l.segments[i], r); err != nil {
			return fmt.Errorf("record %d: %w", r.GetSequence(), err)
		}
	}
	if err := w.finish(l); err != nil {
		return err
	}
	var previous, root sdk.Hash
	copy(previous[:], b.GetPrevious())
	copy(root[:], b.GetRoot())
	chain := sdk.Chain(b.Batch, previous, root)
	if _, err := w.conn.exec("UPDATE epochs SET sequence = ?, chain = ? WHERE id = ?", int64(b.Last), chain[:], epoch); err != nil {
		return fmt.Errorf("set watermark: %w", err)
	}
	return nil
}

// load begins a batch. Its flows get ids of their own range, also where later ones were deleted.
func (w *writer) load(b *sdk.Batch, epoch int64) (*load, error) {
	next, _, err := w.conn.number("SELECT coalesce((SELECT max(stop) FROM batches), 0) + 1")
	if err != nil {
		return nil, fmt.Errorf("add batch: %w", err)
	}
	state := make([]driver.Value, 2)
	if _, err := w.conn.row(`SELECT (SELECT value FROM state WHERE name = 'minutes'),
(SELECT value FROM state WHERE name = 'settled')`, state); err != nil {
		return nil, fmt.Errorf("add batch: %w", err)
	}
	minutes, _ := state[0].(int64)
	settled, _ := state[1].(int64)
	l := &load{Batch: b, next: next, tally: newTally(minutes, settled)}
	if l.segments, err = segments(b); err != nil {
		return nil, err
	}
	l.id, err = w.conn.insert("INSERT INTO batches (epoch, first, last, previous, root, start, stop) VALUES (?, ?, ?, ?, ?, ?, ?)",
		epoch, int64(b.First), int64(b.Last), blob(b.GetPrevious()), blob(b.GetRoot()), next, next-1)
	if err != nil {
		return nil, fmt.Errorf("add batch: %w", err)
	}
	l.flows = newInserter(w.conn, "INSERT INTO flows ("+flowColumnNames+") VALUES ", strings.Count(flowColumnNames, ",")+1, "")
	return l, nil
}

// finish writes what was gathered along the way.
func (w *writer) finish(l *load) error {
	if err := l.flows.flush(); err != nil {
		return fmt.Errorf("add flows: %w", err)
	}
	for _, f := range l.after {
		if err := f(); err != nil {
			return fmt.Errorf("add flows: %w", err)
		}
	}
	if w.rollUp {
		if err := l.tally.write(w.conn); err != nil {
			return err
		}
		if err := settle(w.conn, l.newest); err != nil {
			return err
		}
	}
	_, err := w.conn.exec("UPDATE batches SET stop = ?, oldest = ?, newest = ? WHERE id = ?", l.next-1, l.oldest, l.newest, l.id)
	if err != nil {
		return fmt.Errorf("add batch: %w", err)
	}
	return nil
}

// record stores one record. One of a kind that this version does not know is kept whole.
func (w *writer) record(l *load, segment []byte, r *wire.Record) error {
	notices, gaps, others := shelves()
	on := others
	switch r.GetKind().(type) {
	case *wire.Record_Flow, *wire.Record_Exec:
		return w.flow(l, segment, r, storekit.Flow(r))
	case *wire.Record_Notice:
		on = notices
	case *wire.Record_Gap:
		on = gaps
	case *wire.Record_HashResolved:
		if err := w.in.resolve(r); err != nil {
			return err
		}
	}
	time, err := w.keep(on, l.id, r)
	if err == nil {
		l.reach(time)
	}
	return err
}
