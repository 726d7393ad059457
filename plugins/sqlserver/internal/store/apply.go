package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	attempts = 4 // of one transaction that others disturb
	pause    = 50 * time.Millisecond
)

// writer stores batches over one session. Only Apply uses it.
type writer struct {
	server  *server.Server
	session server.Session // nil: to be opened
	base    string         // name of the main table, once the session is open
	number  int64          // of the last batch of this host
	sequel  sdk.Sequel
}

// open opens a session and finds the tables.
func (w *writer) open(ctx context.Context) error {
	if w.session != nil && !w.session.Broken() {
		return nil
	}
	w.close()
	session, err := w.server.Open(ctx)
	if err != nil {
		return err
	}
	if w.base, err = prepare(ctx, session, w.server); err != nil {
		session.Close()
		return err
	}
	w.session = session
	return nil
}

func (w *writer) close() {
	if w.session != nil {
		w.session.Close()
		w.session = nil
	}
}

// apply stores a batch and its watermark in one transaction, or nothing.
func (w *writer) apply(ctx context.Context, b *sdk.Batch) error {
	waited := w.session != nil
	if err := w.open(ctx); err != nil {
		return err
	}
	rows, err := flatten(b)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := w.transact(ctx, b, rows)
		if waited && w.session.Broken() && ctx.Err() == nil {
			waited = false // the server may have ended it long ago, as it does when nothing is to be stored
			if err := w.open(ctx); err != nil {
				return err
			}
			continue
		}
		if err == nil || attempt == attempts || !worthAnother(err) {
			if err != nil && isTable(err) {
				w.close() // look again, and make what is missing
			}
			return err
		}
		select {
		case <-time.After(pause << attempt):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// worthAnother says whether the same transaction may go well now: others were in its way, another connection of ours had
// stored the batch after all, or rows must be inserted since the server does not let them be copied.
func worthAnother(err error) bool {
	var rewind *sdk.Rewind
	if errors.As(err, &rewind) {
		return false
	}
	switch server.Classify(err) {
	case server.Again, server.Conflict, server.Unsupported:
		return true
	}
	return false
}

func isTable(err error) bool {
	var rewind *sdk.Rewind
	return !errors.As(err, &rewind) && server.Classify(err) == server.NoTable
}

func (w *writer) transact(ctx context.Context, b *sdk.Batch, rows *rowset) (err error) {
	if err := w.session.Begin(ctx, server.Write); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// The session is thrown away if this fails.
			_ = w.session.Rollback(context.WithoutCancel(ctx))
		}
	}()
	have, err := w.watermark(ctx, b)
	if err != nil {
		return err
	}
	switch store, err := w.sequel.Decide(b, have); {
	case err != nil:
		return err
	case !store:
		return w.session.Rollback(ctx)
	}
	if g := sdk.Missing(b, have, name); g != nil {
		rows = rows.with(gapBefore(b, g))
	}
	if err := w.insert(ctx, b, rows); err != nil {
		return err
	}
	if err := w.session.Commit(ctx); err != nil {
		return err
	}
	w.sequel.Stored()
	w.number++
	return nil
}

// gapBefore is the record of a gap that the host did not number: its sequence is negative, and that of no other.
func gapBefore(b *sdk.Batch, g *wire.Gap) *wire.Record {
	return &wire.Record{Sequence: uint64(-int64(b.First)), Kind: &wire.Record_Gap{Gap: g}}
}

// watermark is what is stored of the batch's epoch. The first time it also finds the number of the host's last batch.
func (w *writer) watermark(ctx context.Context, b *sdk.Batch) (have uint64, err error) {
	batches := server.Quote(w.base + batchesTable)
	host := hex.EncodeToString(b.GetHostId())
	var last, number int64
	err = one(ctx, w.session, `SELECT coalesce(max("last"), 0) FROM `+batches+` WHERE "host_id" = $1 AND "epoch" = $2`,
		[]any{host, b.Epoch.String()}, &last)
	if err == nil && w.number == 0 {
		err = one(ctx, w.session, `SELECT coalesce(max("number"), 0) FROM `+batches+` WHERE "host_id" = $1`, []any{host}, &number)
		w.number = number
	}
	if err != nil {
		return 0, fmt.Errorf("read watermark: %w", err)
	}
	return uint64(last), nil
}

// one reads an answer of one row.
func one(ctx context.Context, s server.Session, statement string, args []any, dest ...any) error {
	rows, err := s.Query(ctx, statement, args...)
	if err != nil {
		return err
	}
	if rows.Next() {
		err = rows.Scan(dest...)
	}
	return errors.Join(err, rows.Close())
}

// insert adds the rows of a batch. That of the batch goes first: if the batch is there already, it is what collides.
func (w *writer) insert(ctx context.Context, b *sdk.Batch, rows *rowset) error {
	batch := []sdk.Value{sdk.TextValue(hex.EncodeToString(b.GetHostId())), sdk.TextValue(b.Epoch.String()),
		sdk.IntegerValue(int64(b.First)), sdk.IntegerValue(int64(b.Last)), sdk.IntegerValue(w.number + 1),
		sdk.TextValue(hex.EncodeToString(b.GetPrevious())), sdk.TextValue(hex.EncodeToString(b.GetRoot())),
		sdk.TextValue(rows.leaves)}
	if err := w.add(ctx, tableOf(batchesTable), batch); err != nil {
		return err
	}
	for _, t := range tables() {
		if values := rows.tables[t.suffix]; len(values) > 0 {
			if err := w.add(ctx, t, values); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) add(ctx context.Context, t table, values []sdk.Value) error {
	if err := w.session.Insert(ctx, server.Quote(w.base+t.suffix), t.names(), values); err != nil {
		return fmt.Errorf("insert into %s: %w", w.base+t.suffix, err)
	}
	return nil
}

// answer turns what went wrong with a batch into an answer of the contract. Nothing of the batch is stored then, so that
// sending it again loses nothing.
func answer(err error, srv *server.Server) error {
	var rewind *sdk.Rewind
	if err == nil || errors.As(err, &rewind) {
		return err
	}
	what, wait := explain(err)
	words := strings.TrimSuffix(srv.Name+" "+what, ": ")
	return &sdk.Retry{After: wait, Downstream: true, Err: errors.New(words + ": " + srv.Words(err))}
}

// explain says what a person can do about an error, and when to try again.
func explain(err error) (what string, wait time.Duration) {
	if errors.Is(err, errForeign) {
		return "cannot be used", time.Minute
	}
	switch server.Classify(err) {
	case server.Away:
		return "does not answer", 5 * time.Second
	case server.Untrusted:
		return "has a certificate that is not trusted", 30 * time.Second
	case server.Denied:
		return "denies it (docs/sqlserver.md has the GRANT statements)", 30 * time.Second
	case server.NoTable:
		return "lacks a table", 5 * time.Second
	case server.NoPartition:
		return "has no partition for a row (make a DEFAULT partition, see docs/sqlserver.md)", 30 * time.Second
	case server.Full:
		return "has no space left", 30 * time.Second
	case server.ReadOnly:
		return "is read-only", 30 * time.Second
	case server.Again, server.Conflict:
		return "is busy with a transaction in the way", time.Second
	}
	return "does not take the rows", 30 * time.Second
}
