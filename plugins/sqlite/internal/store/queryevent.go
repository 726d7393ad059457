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
)

// The statements for gaps, which touch the range, and notices, which lie in it; the newest come last.
const (
	selectGaps    = `SELECT id, record FROM gaps WHERE ended >= ?1 AND started < ?2 AND id > ?3 ORDER BY id LIMIT ?4`
	selectNotices = `SELECT id, record FROM notices WHERE time >= ?1 AND time < ?2 AND id > ?3 ORDER BY id LIMIT ?4`
)

// events answers a query for gaps or notices, in the order in which they were stored. The cursor is the id of the last
// one sent.
func events(ctx context.Context, tx *sql.Tx, q *wire.Query, page func(*wire.QueryPage) error) error {
	if len(q.GetBy()) > 0 || q.GetWhere() != nil || len(q.GetOrder()) > 0 || q.GetBucket() != 0 || q.GetTotals() {
		return fmt.Errorf("%w: gaps and notices take a range, a limit and a cursor only", sdk.ErrQuery)
	}
	text, limit, end := selectGaps, int64(defaultLimit), q.GetEnd()
	if q.GetWhat() == wire.Query_NOTICES {
		text = selectNotices
	}
	if n := q.GetLimit(); n > 0 {
		limit = int64(min(n, maxLimit))
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
	rows, err := tx.QueryContext(ctx, text, q.GetStart(), end, after, limit+1)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	out := &pager{send: page, page: &wire.QueryPage{}}
	for ; rows.Next(); limit-- {
		if limit == 0 {
			out.page.Cursor = strconv.AppendInt(nil, after, 10)
			break
		}
		var raw []byte
		if err := rows.Scan(&after, &raw); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		if err := out.event(raw); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return out.send(out.page)
}

// event adds an encoded record to the page.
func (p *pager) event(raw []byte) error {
	r := &wire.Record{}
	if err := proto.Unmarshal(raw, r); err != nil {
		return fmt.Errorf("query: stored record: %w", err)
	}
	if g := r.GetGap(); g != nil {
		p.page.Gaps = append(p.page.Gaps, g)
	}
	if n := r.GetNotice(); n != nil {
		p.page.Notices = append(p.page.Notices, n)
	}
	p.scanned++
	p.page.Scanned = p.scanned
	return p.grew(len(raw))
}
