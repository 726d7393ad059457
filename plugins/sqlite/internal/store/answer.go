package store

import (
	"context"
	"database/sql"
	"fmt"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// rows sends the rows, and with the last page the cursor if there are more.
func (ask *question) rows(ctx context.Context, tx *sql.Tx, out *storekit.Pager) error {
	text := "SELECT * FROM (" + ask.grouped() + ")"
	if ask.continued {
		text += " WHERE " + storekit.Behind(ask.sort, ask.after, ask.bind, storekit.Plain)
	}
	text += storekit.OrderBy(ask.sort, storekit.Plain)
	if !ask.through() {
		text += " LIMIT " + ask.bind(int64(ask.limit)+1)
	}
	ctx, stop := report(ctx, out, ask.progress)
	rows, err := tx.QueryContext(ctx, text, ask.args...)
	if reported := stop(); reported != nil {
		err = reported
	}
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close()
	sum := &summary{}
	if err := ask.deliver(rows, out, sum); err != nil {
		return err
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	if ask.query.GetOthers() {
		out.Page.Others, out.Page.OthersGroups = storekit.Measures(sum.others[:]), sum.groups
	}
	if ask.query.GetTotals() && !ask.continued {
		sum.shown.add(&sum.others)
		out.Page.Totals = storekit.Measures(sum.shown[:])
	}
	return out.End()
}

// through says whether what the limit cuts off is read too, to be added up.
func (ask *question) through() bool {
	return ask.query.GetOthers() || ask.query.GetTotals() && !ask.continued
}

// summary adds up an answer: what is shown, and what the limit cuts off.
type summary struct {
	shown, others sums
	groups        uint64 // in others
}

// deliver hands the rows of the statement to the pager.
func (ask *question) deliver(rows *sql.Rows, out *storekit.Pager, sum *summary) error {
	width := len(ask.dims) + len(measures())
	if ask.query.GetBucket() > 0 {
		width++
	}
	values, dest, last := make([]any, width), make([]any, width), make([]any, width)
	for i := range values {
		dest[i] = &values[i]
	}
	for count := 0; rows.Next(); count++ {
		if count == ask.limit {
			var err error
			if out.Page.Cursor, err = ask.seal(last); err != nil || !ask.through() {
				return err
			}
		}
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		if count >= ask.limit {
			add(&sum.others, values)
			sum.groups++
			continue
		}
		copy(last, values)
		add(&sum.shown, values)
		if err := out.Row(ask.toRow(values)); err != nil {
			return err
		}
	}
	return nil
}

// seal makes the cursor behind a row of the statement.
func (ask *question) seal(row []any) ([]byte, error) {
	c := storekit.Cursor{Bound: ask.newest}
	for _, k := range ask.sort {
		c.After = append(c.After, row[k.Position])
	}
	return c.Seal(ask.query)
}

// add adds the measures at the end of a row of the statement.
func add(to *sums, values []any) {
	for i, v := range values[len(values)-len(to):] {
		n, _ := v.(int64)
		to[i] += n
	}
}

// toRow makes a row of the answer of one of the statement.
func (ask *question) toRow(values []any) *wire.QueryRow {
	row := &wire.QueryRow{}
	for i := range ask.dims {
		switch v := values[i].(type) {
		case int64:
			row.Values = append(row.Values, storekit.Integer(v))
		case string:
			row.Values = append(row.Values, storekit.Text(v))
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
	row.Measures = storekit.Measures(sums)
	return row
}
