package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// measures are the columns that can be summed up, in the order of [storekit.MeasureNames]; rows are counted and have none.
func measures() []string {
	return []string{"sent", "received", "sends", "receives", "connects", "accepts", "failures", ""}
}

// Query answers a query, see [sdk.Store]. Errors of the question wrap [sdk.ErrQuery].
//
// Rows count in the range and the bucket that the end of their window lies in. A query that names no layer sees what
// `connections` shows.
func (s *Store) Query(ctx context.Context, q *wire.Query, page func(*wire.QueryPage) error) error {
	readers := s.readers.Load()
	if readers == nil {
		return errNotOpen
	}
	// One transaction: totals, pages and the cursor's bound come from the same state.
	tx, err := readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read: %w", err)
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
	query     *wire.Query
	plan      plan
	dims      []column // in terms of rows, or of the plan's family
	limit     int
	sort      []storekit.Key
	after     []any // keys of the row behind which the query goes on
	newest    int64 // last row of flows that the first page saw; later ones would shift the sums
	continued bool  // this is not the first page
	statement
	condition        string // on f, a row of flows
	carriedCondition string // on f, a row of the plan's family
	progress         *progress
}

func (s *Store) flows(ctx context.Context, tx *sql.Tx, q *wire.Query, page func(*wire.QueryPage) error) error {
	ask, err := s.parse(ctx, tx, q)
	if err != nil {
		return err
	}
	out := storekit.NewPager(page, q.GetBy()...)
	if ask.plan.family == nil {
		if ask.progress, err = s.begin(ctx, tx, q); err != nil {
			return err
		}
		defer s.progress.end(ask.progress)
	}
	if q.GetTotals() && ask.continued {
		if out.Page.Totals, err = ask.totals(ctx, tx); err != nil {
			return err
		}
	}
	return ask.rows(ctx, tx, out)
}

// parse checks a query and makes what its statements have in common.
func (s *Store) parse(ctx context.Context, tx *sql.Tx, q *wire.Query) (*question, error) {
	ask := &question{query: q, limit: storekit.Limit(q), statement: statement{columns: s.columns}}
	for _, name := range q.GetBy() {
		c, err := ask.find(name)
		if err != nil {
			return nil, err
		}
		ask.dims = append(ask.dims, c)
	}
	_, err := storekit.Check(q)
	if err != nil {
		return nil, err
	}
	if ask.sort, err = storekit.Order(q, ask.types()); err != nil {
		return nil, err
	}
	if err = ask.goOn(ctx, tx); err != nil {
		return nil, err
	}
	if ask.condition, err = ask.where(); err != nil {
		return nil, err
	}
	if s.rowsOnly { // a test compares
		ask.plan = plan{}
		return ask, nil
	}
	return ask, ask.usePlan(ctx, tx)
}

// types are those of the dimensions.
func (ask *question) types() []sdk.Type {
	var types []sdk.Type
	for _, d := range ask.dims {
		types = append(types, d.Type)
	}
	return types
}

// goOn finds out behind which row the query goes on, and what its first page saw.
func (ask *question) goOn(ctx context.Context, tx *sql.Tx) error {
	cursor, err := storekit.OpenCursor(ask.query, ask.sort)
	switch {
	case err != nil:
		return err
	case cursor != nil && cursor.Bound <= 0:
		return fmt.Errorf("%w: the cursor belongs to another store", sdk.ErrQuery)
	case cursor != nil:
		ask.after, ask.newest, ask.continued = cursor.After, cursor.Bound, true
		return nil
	}
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM flows").Scan(&ask.newest); err != nil {
		return fmt.Errorf("find the newest row: %w", err)
	}
	return nil
}

// usePlan plans, and if roll-ups serve says the query in their terms.
func (ask *question) usePlan(ctx context.Context, tx *sql.Tx) error {
	f, err := readFacts(ctx, tx)
	if err != nil {
		return err
	}
	var carried map[string]column
	if ask.plan, carried, err = choose(ask.query, f); err != nil || ask.plan.family == nil {
		return err
	}
	types := ask.columns
	ask.columns = make(map[string]column, len(carried))
	for name, c := range carried {
		c.Type = types[name].Type
		ask.columns[name] = c
	}
	for i, d := range ask.dims {
		ask.dims[i] = ask.columns[d.Name]
	}
	ask.carriedCondition, err = ask.filter(ask.query.GetWhere())
	return err
}

// where is the condition on f: filter, and only what was there when the first page was made.
func (ask *question) where() (string, error) {
	filter, err := ask.filter(ask.query.GetWhere())
	if err != nil {
		return "", err
	}
	parts := []string{filter}
	if !ask.layers {
		parts = append(parts, fmt.Sprintf("f.kind < %d", kindOther))
	}
	return strings.Join(parts, " AND "), nil
}

// keys are the columns of f that the dimensions follow from.
func (ask *question) keys() []string {
	var keys []string
	for _, d := range ask.dims {
		if d.base != "" {
			keys = append(keys, d.base)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// grouped is the statement that sums up. It groups twice: by the numbers that the dimensions follow from and the bucket, then
// by the dimensions' values, so that text is looked up a few times instead of once a row.
func (ask *question) grouped() string {
	keys := ask.keys()
	var source string
	if ask.plan.family != nil {
		source = ask.fromRollUps(keys)
	} else {
		source = ask.fromRows(keys)
	}
	inner, outer, groups, looked := slices.Clone(keys), []string{}, []string{}, ""
	if ask.query.GetBucket() > 0 {
		inner = append(inner, ask.bucketExpression("t", ask.query.GetBucket(), ask.query.GetZone())+" AS "+storekit.BucketColumn)
		keys = append(keys, storekit.BucketColumn)
	}
	for i, d := range ask.dims {
		value := d.value
		if d.from != "" { // a join looks it up once, a subquery once for the group and once for the answer
			value = fmt.Sprintf("d%d.value", i)
			looked += fmt.Sprintf(" JOIN (SELECT %s AS id, %s AS value FROM %s) d%d ON d%[4]d.id = f.%[5]s", d.id, d.value, d.from, i, d.base)
		}
		outer = append(outer, fmt.Sprintf("%s AS c%d", value, i))
		groups = append(groups, fmt.Sprintf("c%d", i))
	}
	if ask.query.GetBucket() > 0 {
		outer = append(outer, storekit.BucketColumn)
		groups = append(groups, storekit.BucketColumn)
	}
	for i := range measures() {
		inner = append(inner, fmt.Sprintf("sum(m%d) AS m%d", i, i))
		outer = append(outer, fmt.Sprintf("coalesce(sum(m%d), 0) AS m%d", i, i))
	}
	having := ""
	if len(groups) > 0 {
		having = fmt.Sprintf(" HAVING sum(m%d) > 0", len(measures())-1)
	}
	return fmt.Sprintf("SELECT %s FROM (SELECT %s FROM (%s)%s) f%s%s%s",
		strings.Join(outer, ", "), strings.Join(inner, ", "), source, by(keys), looked, by(groups), having)
}

// fromRows is the sums of all rows that the query is about, batch by batch, which is the order in which they lie.
func (ask *question) fromRows(keys []string) string {
	columns, groups := make([]string, 0, len(keys)+1), make([]string, 0, len(keys)+1)
	for _, k := range keys {
		columns, groups = append(columns, "f."+k+" AS "+k), append(groups, "f."+k)
	}
	if ask.query.GetBucket() > 0 {
		columns = append(columns, "(SELECT ended FROM windows WHERE id = f.window) AS t")
		groups = append(groups, "f.window")
	}
	for i, m := range measures() {
		sum := "count(*)"
		if m != "" {
			sum = "sum(f." + m + ")"
		}
		columns = append(columns, fmt.Sprintf("%s AS m%d", sum, i))
	}
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s AND %s%s", strings.Join(columns, ", "), scanFrom, ask.scanCondition(),
		ask.condition, by(groups))
}

// scanFrom reads flows in the order in which they lie.
const scanFrom = "batches b CROSS JOIN flows f ON f.id BETWEEN b.start AND b.stop"

// scanCondition limits a scan to the range, and to what was there when the first page was made. Windows are looked up
// only in batches that the range cuts.
func (ask *question) scanCondition() string {
	parts := []string{"f.id <= " + ask.bind(ask.newest)}
	if ask.progress != nil {
		parts = append([]string{fmt.Sprintf("tick(%s, b.stop - b.start + 1)", ask.bind(ask.progress.id))}, parts...)
	}
	if ask.query.GetStart() == 0 && ask.query.GetEnd() == 0 {
		return strings.Join(parts, " AND ")
	}
	from, to := rangeOf(ask.query)
	a, z := ask.bind(from), ask.bind(to)
	parts = append([]string{fmt.Sprintf("b.newest >= %s AND b.oldest < %s", a, z)}, parts...)
	return strings.Join(append(parts, fmt.Sprintf("(b.oldest >= %s AND b.newest < %s OR %s)", a, z, ask.withinSQL(from, to))), " AND ")
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
	total.dims, total.query = nil, &wire.Query{Start: ask.query.GetStart(), End: ask.query.GetEnd()}
	total.args = slices.Clone(ask.args)
	var all [8]int64
	dest := make([]any, len(all))
	for i := range all {
		dest[i] = &all[i]
	}
	if err := tx.QueryRowContext(ctx, total.grouped(), total.args...).Scan(dest...); err != nil {
		return nil, fmt.Errorf("query totals: %w", err)
	}
	return storekit.Measures(all[:]), nil
}
