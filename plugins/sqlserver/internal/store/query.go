package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// measures are the columns that can be summed up, in the order of [storekit.MeasureNames]; rows are counted and have none.
func measures() []string {
	return []string{"send", "recv", "sends", "receives", "connects", "accepts", "failures", ""}
}

// Query answers a query, see [sdk.Store]: about every host whose rows the server lets this user see; the column host_id
// tells them apart. Errors of the question wrap [sdk.ErrQuery].
//
// Rows count in the range and the bucket that the end of their window lies in. A query that names no layer sees only what
// was counted at sockets. One page is one state of the database; the next page sees what came meanwhile.
func (s *Store) Query(ctx context.Context, q *wire.Query, page func(*wire.QueryPage) error) error {
	return s.reading(ctx, func(a *answerer) error {
		switch q.GetWhat() {
		case wire.Query_FLOWS:
			return a.flows(ctx, q, a.pages(page))
		case wire.Query_GAPS, wire.Query_NOTICES:
			return a.events(ctx, q, a.pages(page))
		}
		return fmt.Errorf("%w: what %d is not known", sdk.ErrQuery, q.GetWhat())
	})
}

// pages makes a pager that remembers an error of send.
func (a *answerer) pages(send func(*wire.QueryPage) error) *storekit.Pager {
	return storekit.NewPager(func(p *wire.QueryPage) error { return a.refuse(send(p)) })
}

// flows answers a query for flows.
func (a *answerer) flows(ctx context.Context, q *wire.Query, out *storekit.Pager) error {
	ask, err := a.parse(ctx, q)
	if err != nil {
		return err
	}
	out.Page.Columns = append(out.Page.Columns, q.GetBy()...)
	if q.GetTotals() {
		sums, _, err := ask.sumUp(ctx, ask.from(nil, false), "")
		if err != nil {
			return err
		}
		out.Page.Totals = sums
	}
	return ask.rows(ctx, out)
}

// question is a query of which nothing has been looked at.
func (a *answerer) question(q *wire.Query) *question {
	return &question{answerer: a, query: q, limit: storekit.Limit(q), statement: statement{dialect: a.dialect,
		columns: columnsByName(), resolved: server.Quote(a.base + resolvedTable)}}
}

// parse checks a query and makes what its statements have in common.
func (a *answerer) parse(ctx context.Context, q *wire.Query) (*question, error) {
	ask := a.question(q)
	var types []sdk.Type
	for _, name := range q.GetBy() {
		c, err := ask.find(name)
		if err != nil {
			return nil, err
		}
		ask.dims, types = append(ask.dims, c), append(types, c.kind)
	}
	var err error
	if ask.buckets.Buckets, err = storekit.Check(q); err != nil {
		return nil, err
	}
	if ask.sort, err = storekit.Order(q, types); err != nil {
		return nil, err
	}
	cursor, err := storekit.OpenCursor(q, ask.sort)
	if err != nil {
		return nil, err
	}
	if cursor != nil {
		ask.after, ask.continued = cursor.After, true
	}
	if ask.condition, err = ask.where(); err != nil {
		return nil, err
	}
	ask.bound = len(ask.args)
	if q.GetBucket() != 0 {
		err = ask.slice(ctx)
	}
	return ask, err
}

// rows sends the rows, and with the last page the cursor if there are more, and what is left out if that was asked for.
func (ask *question) rows(ctx context.Context, out *storekit.Pager) error {
	text, args := ask.grouped()
	rows, err := ask.session.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	r := ask.newReader()
	more := false
	for count := 0; rows.Next(); count++ {
		if more = count == ask.limit; more {
			break
		}
		if err := rows.Scan(r.dest...); err != nil {
			return errors.Join(err, rows.Close())
		}
		ask.last = r.keys(ask.sort)
		if err := out.Row(r.row(ask)); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	if err := rows.Close(); err != nil {
		return err
	}
	if more {
		if out.Page.Cursor, err = (storekit.Cursor{After: ask.last}).Seal(ask.query); err != nil {
			return err
		}
	}
	if ask.query.GetOthers() {
		if err := ask.others(ctx, more, out.Page); err != nil {
			return err
		}
	}
	return out.End()
}

// others sums up the groups behind the last one that was sent.
func (ask *question) others(ctx context.Context, more bool, page *wire.QueryPage) (err error) {
	page.Others = &wire.Measures{}
	if !more {
		return nil
	}
	ask.after, ask.continued, ask.args = ask.last, true, ask.args[:ask.bound]
	inner := ask.groups()
	condition := ask.behind()
	page.Others, page.OthersGroups, err = ask.sumUp(ctx, "("+inner+") g", condition)
	return err
}
