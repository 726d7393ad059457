package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	defaultLimit = 1000
	maxLimit     = 1_000_000
	pageBytes    = 1 << 20 // a page is sent when it has grown to this; the contract allows four times as much
)

// measures are what can be summed up, in the order of wire.Measures, and how. The name is the one in an order.
func measures() [][2]string {
	return [][2]string{{"sent", "sent"}, {"received", "received"}, {"sends", "sends"}, {"receives", "receives"},
		{"connects", "connects"}, {"accepts", "accepts"}, {"failures", "failures"}, {"rows", ""}}
}

// Query answers a query, see [sdk.Store]. Errors of the question wrap [sdk.ErrQuery].
//
// Rows count in the range and the bucket that the end of their window lies in. A query that names no layer sees what
// `connections` shows.
func (s *Store) Query(ctx context.Context, q *wire.Query, page func(*wire.QueryPage) error) error {
	readers := s.readers.Load()
	if readers == nil {
		return errors.New("query: the database is not open")
	}
	// One transaction: totals, pages and the cursor's bound come from the same state.
	tx, err := readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("query: begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	switch q.GetWhat() {
	case wire.Query_FLOWS:
		err = s.flows(ctx, tx, q, page)
	case wire.Query_GAPS, wire.Query_NOTICES:
		err = events(ctx, tx, q, page)
	default:
		err = fmt.Errorf("%w: what %d is not known", sdk.ErrQuery, q.GetWhat())
	}
	if ctx.Err() != nil {
		return ctx.Err() // the driver's word for it is an interrupted statement
	}
	return err
}

// question is a query for flows, taken apart.
type question struct {
	query  *wire.Query
	dims   []column
	limit  int
	cursor cursor
	sort   []sortKey
	statement
	condition string // on f
}

func (s *Store) flows(ctx context.Context, tx *sql.Tx, q *wire.Query, page func(*wire.QueryPage) error) error {
	ask, err := s.parse(ctx, tx, q)
	if err != nil {
		return err
	}
	out := &pager{send: page, page: &wire.QueryPage{}}
	for _, d := range ask.dims {
		out.page.Columns = append(out.page.Columns, d.Name)
	}
	if q.GetTotals() {
		if out.page.Totals, err = ask.totals(ctx, tx); err != nil {
			return err
		}
	}
	return ask.rows(ctx, tx, out)
}

// parse checks a query and makes what its statements have in common.
func (s *Store) parse(ctx context.Context, tx *sql.Tx, q *wire.Query) (*question, error) {
	ask := &question{query: q, limit: defaultLimit, statement: statement{columns: s.columns}}
	for _, name := range q.GetBy() {
		c, err := ask.find(name)
		if err != nil {
			return nil, err
		}
		ask.dims = append(ask.dims, c)
	}
	if n := q.GetLimit(); n > 0 {
		ask.limit = int(min(n, maxLimit))
	}
	if q.GetBucket() < 0 {
		return nil, fmt.Errorf("%w: bucket %d ns is negative", sdk.ErrQuery, q.GetBucket())
	}
	if _, err := loadZone(q.GetZone()); err != nil {
		return nil, fmt.Errorf("%w: zone %q: %w", sdk.ErrQuery, sdk.EscapeString(q.GetZone()), err)
	}
	var err error
	if ask.sort, err = ask.order(); err != nil {
		return nil, err
	}
	if ask.cursor, err = openCursor(q, len(ask.sort)); err != nil {
		return nil, err
	}
	if ask.cursor.Newest == 0 {
		if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM flows").Scan(&ask.cursor.Newest); err != nil {
			return nil, fmt.Errorf("query: %w", err)
		}
	}
	ask.condition, err = ask.where()
	return ask, err
}

// where is the condition on f: filter, range, and only what was there when the first page was made.
func (ask *question) where() (string, error) {
	filter, err := ask.filter(ask.query.GetWhere(), 0)
	if err != nil {
		return "", err
	}
	parts := []string{filter, "f.id <= " + ask.bind(ask.cursor.Newest)}
	if !ask.layers {
		parts = append(parts, fmt.Sprintf("f.kind < %d", kindOther))
	}
	if start, end := ask.query.GetStart(), ask.query.GetEnd(); start != 0 || end != 0 {
		if end == 0 {
			end = math.MaxInt64
		}
		parts = append(parts, fmt.Sprintf("f.window IN (SELECT id FROM windows WHERE ended >= %s AND ended < %s)",
			ask.bind(start), ask.bind(end)))
	}
	return strings.Join(parts, " AND "), nil
}

// grouped is the statement that sums up. It groups twice: first by the numbers that the dimensions follow from, over all
// rows, then by the dimensions' values, over what is left, so that text is looked up a few times instead of once a row.
func (ask *question) grouped() string {
	var keys []string
	for _, d := range ask.dims {
		keys = append(keys, "f."+d.base)
	}
	if ask.query.GetBucket() > 0 {
		keys = append(keys, "f.window")
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)

	var outer, groups []string
	for i, d := range ask.dims {
		outer = append(outer, fmt.Sprintf("%s AS c%d", d.expression(), i))
		groups = append(groups, fmt.Sprintf("c%d", i))
	}
	if ask.query.GetBucket() > 0 {
		outer = append(outer, fmt.Sprintf("bucket((SELECT ended FROM windows WHERE id = f.window), %s, %s) AS bucket_start",
			ask.bind(ask.query.GetBucket()), ask.bind(ask.query.GetZone())))
		groups = append(groups, "bucket_start")
	}
	inner := slices.Clone(keys)
	for i, m := range measures() {
		sum := "count(*)"
		if m[1] != "" {
			sum = "sum(f." + m[1] + ")"
		}
		inner = append(inner, fmt.Sprintf("%s AS m%d", sum, i))
		outer = append(outer, fmt.Sprintf("coalesce(sum(m%d), 0) AS m%d", i, i))
	}
	return fmt.Sprintf("SELECT %s FROM (SELECT %s FROM flows f WHERE %s%s) f%s",
		strings.Join(outer, ", "), strings.Join(inner, ", "), ask.condition, by(keys), by(groups))
}

func by(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return " GROUP BY " + strings.Join(keys, ", ")
}

// totals sums up everything that matches.
func (ask *question) totals(ctx context.Context, tx *sql.Tx) (*wire.Measures, error) {
	total := *ask
	total.dims, total.query = nil, &wire.Query{}
	total.args = slices.Clone(ask.args)
	var sums [8]int64
	dest := make([]any, len(sums))
	for i := range sums {
		dest[i] = &sums[i]
	}
	if err := tx.QueryRowContext(ctx, total.grouped(), total.args...).Scan(dest...); err != nil {
		return nil, fmt.Errorf("query totals: %w", err)
	}
	return toMeasures(sums[:]), nil
}

// rows sends the rows, and with the last page the cursor if there are more.
func (ask *question) rows(ctx context.Context, tx *sql.Tx, out *pager) error {
	text := "SELECT * FROM (" + ask.grouped() + ")" + ask.after() + ask.orderBy() + " LIMIT " + ask.bind(int64(ask.limit)+1)
	rows, err := tx.QueryContext(ctx, text, ask.args...)
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	width := len(ask.dims) + len(measures())
	if ask.query.GetBucket() > 0 {
		width++
	}
	values, dest := make([]any, width), make([]any, width)
	for i := range values {
		dest[i] = &values[i]
	}
	last := make([]any, width)
	for count := 0; rows.Next(); count++ {
		if count == ask.limit {
			if out.page.Cursor, err = ask.seal(last); err != nil {
				return err
			}
			break
		}
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		copy(last, values)
		if err := out.row(ask.toRow(values)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return out.send(out.page)
}

// toRow makes a row of the answer of one of the statement.
func (ask *question) toRow(values []any) *wire.QueryRow {
	row := &wire.QueryRow{}
	for i := range ask.dims {
		switch v := values[i].(type) {
		case int64:
			row.Values = append(row.Values, &wire.Value{Kind: &wire.Value_Number{Number: v}})
		case string:
			row.Values = append(row.Values, &wire.Value{Kind: &wire.Value_Text{Text: unescape(v)}})
		default:
			row.Values = append(row.Values, &wire.Value{})
		}
	}
	values = values[len(ask.dims):]
	if ask.query.GetBucket() > 0 {
		row.Bucket, _ = values[0].(int64)
		values = values[1:]
	}
	sums := make([]int64, len(values))
	for i, v := range values {
		sums[i], _ = v.(int64)
	}
	row.Measures = toMeasures(sums)
	return row
}

// unescape gives the bytes back that a text was made of: an answer may be put into a filter as it is.
func unescape(text string) []byte {
	raw, err := sdk.Unescape(text)
	if err != nil {
		return []byte(text) // not written by us
	}
	return raw
}

func toMeasures(n []int64) *wire.Measures {
	return &wire.Measures{Sent: uint64(n[0]), Received: uint64(n[1]), Sends: uint64(n[2]), Receives: uint64(n[3]),
		Connects: uint64(n[4]), Accepts: uint64(n[5]), Failures: uint64(n[6]), Rows: uint64(n[7])}
}

// pager gathers rows into pages.
type pager struct {
	send    func(*wire.QueryPage) error
	page    *wire.QueryPage
	size    int
	scanned int64
}

func (p *pager) row(r *wire.QueryRow) error {
	p.page.Rows = append(p.page.Rows, r)
	p.scanned += int64(r.GetMeasures().GetRows())
	p.page.Scanned = p.scanned
	return p.grew(proto.Size(r))
}

// grew notes that the page has become larger and sends it if it is large enough.
func (p *pager) grew(bytes int) error {
	if p.size += bytes; p.size < pageBytes {
		return nil
	}
	page := p.page
	p.page, p.size = &wire.QueryPage{Scanned: p.scanned}, 0
	return p.send(page)
}
