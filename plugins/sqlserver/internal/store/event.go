package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// place is where a page of gaps or notices ended.
type place struct {
	Time        int64
	Host, Epoch string
	Seq         int64
}

// events answers a query for gaps, which touch the range, or notices, which lie in it; the newest come last.
func (a *answerer) events(ctx context.Context, q *wire.Query, out *storekit.Pager) error {
	if err := storekit.CheckRecords(q); err != nil {
		return err
	}
	table, time, until := gapsTable, `"end"`, `"start"`
	if q.GetWhat() == wire.Query_NOTICES {
		table, time, until = noticesTable, `"time"`, `"time"`
	}
	after := place{Time: math.MinInt64, Seq: math.MinInt64}
	if c := q.GetCursor(); len(c) > 0 && json.Unmarshal(c, &after) != nil {
		return fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery)
	}
	limit, end := storekit.Limit(q), q.GetEnd()
	if end == 0 {
		end = math.MaxInt64
	}
	rows, err := a.session.Query(ctx, fmt.Sprintf(`SELECT %[1]s, "host_id", "epoch", "seq", "record" FROM %[2]s WHERE %[1]s >= $1`+
		` AND %[3]s < $2 AND (%[1]s > $3 OR (%[1]s = $3 AND ("host_id" > $4 OR ("host_id" = $4 AND ("epoch" > $5 OR`+
		` ("epoch" = $5 AND "seq" > $6)))))) ORDER BY %[1]s, "host_id", "epoch", "seq" LIMIT %[4]d`,
		time, server.Quote(a.base+table), until, limit+1),
		q.GetStart(), end, after.Time, after.Host, after.Epoch, after.Seq)
	if err != nil {
		return err
	}
	if err := addEvents(out, rows, limit, after); err != nil {
		return errors.Join(err, rows.Close())
	}
	if err := rows.Close(); err != nil {
		return err
	}
	return out.End()
}

// addEvents adds at most limit rows to pages, and a cursor if there are more.
func addEvents(out *storekit.Pager, rows server.Rows, limit int, last place) (err error) {
	for ; rows.Next(); limit-- {
		if limit == 0 {
			out.Page.Cursor, err = json.Marshal(last)
			return err
		}
		var record string
		if err := rows.Scan(&last.Time, &last.Host, &last.Epoch, &last.Seq, &record); err != nil {
			return err
		}
		if err := addEvent(out, record); err != nil {
			return err
		}
	}
	return nil
}

// addEvent adds an encoded record to the page. One that cannot be read, or is larger than any that a host sends, is passed
// over: a host of the fleet that writes nonsense must not hide the gaps and notices of the others.
func addEvent(out *storekit.Pager, record string) error {
	r, err := decodeRecord(record)
	if err != nil || len(record) > 2*wire.MaxBatchBytes {
		slog.Warn("sqlserver: a stored gap or notice cannot be read; evidence names it")
		return nil
	}
	return out.Record(r, len(record)/2)
}

// decodeRecord reads a record as it stands in a table.
func decodeRecord(text string) (*wire.Record, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("stored record: %w", err)
	}
	r := &wire.Record{}
	if err := proto.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("stored record: %w", err)
	}
	return r, nil
}
