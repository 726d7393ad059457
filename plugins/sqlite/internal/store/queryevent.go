package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// The statements for gaps, which touch the range, and notices, which lie in it; the newest come last.
const (
	selectGaps    = `SELECT id, record FROM gaps WHERE ended >= ?1 AND started < ?2 AND id > ?3 ORDER BY id LIMIT ?4`
	selectNotices = `SELECT id, record FROM notices WHERE time >= ?1 AND time < ?2 AND id > ?3 ORDER BY id LIMIT ?4`
)

// events answers a query for gaps or notices, in the order in which they were stored. The cursor is the id of the last
// one sent.
func events(ctx context.Context, tx *sql.Tx, q *wire.Query, page func(*wire.QueryPage) error) error {
	if err := storekit.CheckRecords(q); err != nil {
		return err
	}
	text, limit, end := selectGaps, storekit.Limit(q), q.GetEnd()
	if q.GetWhat() == wire.Query_NOTICES {
		text = selectNotices
	}
	if end == 0 {
		end = math.MaxInt64
	}
	after := int64(0)
	if c := q.GetCursor(); len(c) > 0 {
		var err error
		if after, err = strconv.ParseInt(string(c), 10, 64); err != nil {
			return fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery)
		}
	}
	rows, err := tx.QueryContext(ctx, text, q.GetStart(), end, after, int64(limit)+1)
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close()
	out := storekit.NewPager(page)
	for ; rows.Next(); limit-- {
		if limit == 0 {
			out.Page.Cursor = strconv.AppendInt(nil, after, 10)
			break
		}
		var raw []byte
		if err := rows.Scan(&after, &raw); err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		r := &wire.Record{}
		if err := proto.Unmarshal(raw, r); err != nil {
			return fmt.Errorf("decode a stored record: %w", err)
		}
		if err := out.Record(r, len(raw)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	return out.End()
}
