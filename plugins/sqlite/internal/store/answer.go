package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// rows sends the rows, and with the last page the cursor if there are more.
func (ask *question) rows(ctx context.Context, tx *sql.Tx, out *pager) error {
	text := "SELECT * FROM (" + ask.grouped() + ")" + ask.after() + ask.orderBy()
	if !ask.through() {
		text += " LIMIT " + ask.bind(int64(ask.limit)+1)
	}
	ctx, stop := out.report(ctx, ask.progress)
	rows, err := tx.QueryContext(ctx, text, ask.args...)
	if reported := stop(); reported != nil {
		err = reported
	}
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	defer rows.Close()
	sum := &summary{}
	if err := ask.deliver(rows, out, sum); err != nil {
		return err
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	if ask.query.GetOthers() {
		out.page.Others, out.page.OthersGroups = toMeasures(sum.others[:]), sum.groups
	}
	if ask.query.GetTotals() && !ask.continued {
		sum.shown.add(&sum.others)
		out.page.Totals = toMeasures(sum.shown[:])
	}
	return out.send(out.page)
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
func (ask *question) deliver(rows *sql.Rows, out *pager, sum *summary) error {
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
			if out.page.Cursor, err = ask.seal(last); err != nil || !ask.through() {
				return err
			}
		}
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		if count >= ask.limit {
			add(&sum.others, values)
			sum.groups++
			continue
		}
		copy(last, values)
		add(&sum.shown, values)
		if err := out.row(ask.toRow(values)); err != nil {
			return err
		}
	}
	return nil
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
