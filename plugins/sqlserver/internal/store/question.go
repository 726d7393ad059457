package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// question is a query for flows, taken apart.
type question struct {
	*answerer
	query *wire.Query
	dims  []column
	limit int
	sort  []storekit.Key
	after []any // keys of the row behind which to go on
	last  []any // of the last row sent
	// continued says that there is such a row.
	continued bool
	buckets
	statement
	condition string // on f
	bound     int    // arguments of the condition
}

// where is the condition on f: filter and range.
func (ask *question) where() (string, error) {
	filter, err := ask.filter(ask.query.GetWhere())
	if err != nil {
		return "", err
	}
	parts := []string{filter}
	if start := ask.query.GetStart(); start != 0 {
		parts = append(parts, `f."window_end" >= `+ask.bind(start))
	}
	if end := ask.query.GetEnd(); end != 0 {
		parts = append(parts, `f."window_end" < `+ask.bind(end))
	}
	return strings.Join(parts, " AND "), nil
}

// slice finds out how to cut the time into buckets.
func (ask *question) slice(ctx context.Context) error {
	var first, last int64
	err := one(ctx, ask.session, `SELECT coalesce(min("window_end"), 0), coalesce(max("window_end"), 0) FROM `+
		server.Quote(ask.base), nil, &first, &last)
	if err != nil {
		return err
	}
	if start := ask.query.GetStart(); start > first {
		first = start
	}
	if end := ask.query.GetEnd(); end != 0 && end < last {
		last = end
	}
	ask.reach(first, last)
	// A host whose clock is beyond all reason must not make a sum of times overflow.
	ask.condition += fmt.Sprintf(` AND f."window_end" BETWEEN %d AND %d`, math.MinInt64/4, math.MaxInt64/4)
	return nil
}

// source is the rows that the query sees. Only one that names the layer sees what was counted elsewhere than at sockets.
func (ask *question) source() string {
	if !ask.layers {
		return server.Quote(ask.base) + " f"
	}
	columns := `"` + strings.Join(tableOf(mainTable).names(), `", "`) + `"`
	return fmt.Sprintf("(SELECT %s FROM %s UNION ALL SELECT %s FROM %s) f", columns, server.Quote(ask.base), columns,
		server.Quote(ask.base+otherTable))
}

// from is the rows with the columns that the query needs: see package storekit for their names.
func (ask *question) from(dims []column, bucket bool) string {
	var list []string
	for i, d := range dims {
		list = append(list, fmt.Sprintf("%s AS c%d", ask.value(d.name), i))
	}
	if bucket {
		list = append(list, ask.expression(`f."window_end"`)+" AS "+storekit.BucketColumn)
	}
	for i, m := range measures() {
		column := "1"
		if m != "" {
			column = `f."` + m + `"`
		}
		list = append(list, fmt.Sprintf("%s AS m%d", column, i))
	}
	return fmt.Sprintf("(SELECT %s FROM %s WHERE %s) q", strings.Join(list, ", "), ask.source(), ask.condition)
}

// groups is the statement that sums up by dimensions and bucket.
func (ask *question) groups() string {
	var keys []string
	for i := range ask.dims {
		keys = append(keys, fmt.Sprintf("c%d", i))
	}
	if ask.query.GetBucket() != 0 {
		keys = append(keys, storekit.BucketColumn)
	}
	list := append(slices.Clone(keys), ask.sums()...)
	text := "SELECT " + strings.Join(list, ", ") + " FROM " + ask.from(ask.dims, ask.query.GetBucket() != 0)
	if len(keys) > 0 {
		text += " GROUP BY " + strings.Join(keys, ", ")
	}
	return text
}

// comparable is an expression that orders text by its bytes: PostgreSQL would follow the language of the database.
func (ask *question) comparable(k storekit.Key, expression string) string {
	if k.Text && ask.answerer.dialect == server.PostgreSQL {
		return "convert_to(" + expression + ", 'UTF8')"
	}
	return expression
}

// behind is the condition for groups behind the last row sent, "" if there is none.
func (ask *question) behind() string {
	if !ask.continued {
		return ""
	}
	return storekit.Behind(ask.sort, ask.after, ask.bind, ask.comparable)
}

// sums are the measures summed up. Servers sum bigint up to something longer, which is brought back to 64 bits: one host
// of a fleet with absurd numbers must not fail everybody's query.
func (ask *question) sums() []string {
	var list []string
	for i := range measures() {
		list = append(list, fmt.Sprintf("CAST(greatest(least(coalesce(sum(m%d), 0), %d), %d) AS %s) AS m%d", i,
			math.MaxInt64, math.MinInt64, ask.bigint(), i))
	}
	return list
}

// grouped is the statement for the rows of this page and one more.
func (ask *question) grouped() (string, []any) {
	text := "SELECT * FROM (" + ask.groups() + ") g"
	if condition := ask.behind(); condition != "" {
		text += " WHERE " + condition
	}
	return text + storekit.OrderBy(ask.sort, ask.comparable) + fmt.Sprintf(" LIMIT %d", ask.limit+1), ask.args
}

// sumUp sums up everything in from, and counts its rows.
func (ask *question) sumUp(ctx context.Context, from, condition string) (*wire.Measures, uint64, error) {
	text := "SELECT " + strings.Join(ask.sums(), ", ") + ", count(*) FROM " + from
	if condition != "" {
		text += " WHERE " + condition
	}
	sums := make([]int64, len(measures())+1)
	dest := make([]any, len(sums))
	for i := range sums {
		dest[i] = &sums[i]
	}
	err := one(ctx, ask.session, text, ask.args, dest...)
	return storekit.Measures(sums), uint64(sums[len(sums)-1]), err
}

// reader takes the rows of the grouped statement.
type reader struct {
	texts   []string
	numbers []int64
	dest    []any
}

func (ask *question) newReader() *reader {
	width := len(ask.dims) + len(measures())
	if ask.query.GetBucket() != 0 {
		width++
	}
	r := &reader{texts: make([]string, width), numbers: make([]int64, width), dest: make([]any, width)}
	for i := range r.dest {
		r.dest[i] = &r.numbers[i]
		if i < len(ask.dims) && ask.dims[i].kind == sdk.Text {
			r.dest[i] = &r.texts[i]
		}
	}
	return r
}

// keys are the values that the row is sorted by.
func (r *reader) keys(sort []storekit.Key) []any {
	keys := make([]any, len(sort))
	for i, k := range sort {
		if keys[i] = r.numbers[k.Position]; k.Text {
			keys[i] = r.texts[k.Position]
		}
	}
	return keys
}

// row makes a row of the answer.
func (r *reader) row(ask *question) *wire.QueryRow {
	row := &wire.QueryRow{}
	for i, d := range ask.dims {
		v := storekit.Integer(r.numbers[i])
		if d.kind == sdk.Text {
			v = storekit.Text(r.texts[i])
		}
		row.Values = append(row.Values, v)
	}
	numbers := r.numbers[len(ask.dims):]
	if ask.query.GetBucket() != 0 {
		row.Bucket = ask.start(numbers[0])
		numbers = numbers[1:]
	}
	row.Measures = storekit.Measures(numbers)
	return row
}
