package store

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	defaultLimit = 1000
	maxLimit     = 1_000_000
	pageBytes    = 1 << 20 // a page is sent when it has grown to this; the contract allows four times as much
)

// measure is what can be summed up.
type measure struct {
	name   string // in an order
	column string // of flows; none for the number of rows
}

// measures are in the order of wire.Measures.
func measures() []measure {
	return []measure{{"sent", "send"}, {"received", "recv"}, {"sends", "sends"}, {"receives", "receives"},
		{"connects", "connects"}, {"accepts", "accepts"}, {"failures", "failures"}, {"rows", ""}}
}

// Query answers a query, see [sdk.Store]: about every host whose rows the server lets this user see; the column host_id
// tells them apart. Errors of the question wrap [sdk.ErrQuery].
//
// Rows count in the range and the bucket that the end of their window lies in. A query that names no layer sees only what
// was counted at sockets. One page is one state of the database; the next page sees what came meanwhile.
func (s *Store) Query(ctx context.Context, q *wire.Query, page func(*wire.QueryPage) error) error {
	var refused error // by the caller, or for the question: no trouble of the server
	err := s.readers.Use(ctx, func(session server.Session) (err error) {
		base, err := s.table(ctx, session)
		if err != nil {
			return err
		}
		if err := session.Begin(ctx, server.Snapshot); err != nil {
			return err
		}
		// The pool throws the session away if this fails.
		defer func() { _ = session.Rollback(context.WithoutCancel(ctx)) }()
		a := &answerer{session: session, base: base, dialect: s.server.Dialect}
		switch q.GetWhat() {
		case wire.Query_FLOWS:
			err = a.flows(ctx, q, a.pages(page))
		case wire.Query_GAPS, wire.Query_NOTICES:
			err = a.events(ctx, q, a.pages(page))
		default:
			err = fmt.Errorf("%w: what %d is not known", sdk.ErrQuery, q.GetWhat())
		}
		if a.refused != nil || errors.Is(err, sdk.ErrQuery) {
			refused = err
			return nil
		}
		return err
	})
	switch {
	case refused != nil:
		return refused
	case ctx.Err() != nil:
		return ctx.Err() // the server's word for it is a statement that was ended
	case err != nil:
		what, _ := explain(err)
		return fmt.Errorf("query: %s %s: %s", s.server.Name, what, s.server.Words(err))
	}
	return nil
}

// answerer answers one query over one session.
type answerer struct {
	session server.Session
	base    string
	dialect server.Dialect
	refused error // of the function that takes pages
}

// pages makes a pager that remembers an error of send.
func (a *answerer) pages(send func(*wire.QueryPage) error) *pager {
	return &pager{page: &wire.QueryPage{}, send: func(p *wire.QueryPage) error {
		a.refused = send(p)
		return a.refused
	}}
}

// flows answers a query for flows.
func (a *answerer) flows(ctx context.Context, q *wire.Query, out *pager) error {
	ask, err := a.parse(ctx, q)
	if err != nil {
		return err
	}
	for _, d := range ask.dims {
		out.page.Columns = append(out.page.Columns, d.name)
	}
	if q.GetTotals() {
		sums, _, err := ask.sumUp(ctx, ask.from(nil, false), "")
		if err != nil {
			return err
		}
		out.page.Totals = sums
	}
	return ask.rows(ctx, out)
}

// parse checks a query and makes what its statements have in common.
func (a *answerer) parse(ctx context.Context, q *wire.Query) (*question, error) {
	ask := &question{answerer: a, query: q, limit: defaultLimit, statement: statement{dialect: a.dialect, columns: columnsByName()}}
	ask.resolved = server.Quote(a.base + resolvedTable)
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
	if q.GetOthers() && q.GetBucket() != 0 {
		return nil, fmt.Errorf("%w: others cannot be asked for with a bucket", sdk.ErrQuery)
	}
	_, err := newBuckets(q.GetBucket(), q.GetZone(), 0, 0)
	if err != nil {
		return nil, err
	}
	if ask.sort, err = ask.order(); err != nil {
		return nil, err
	}
	if ask.after, err = openCursor(q, ask.sort); err != nil {
		return nil, err
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
func (ask *question) rows(ctx context.Context, out *pager) error {
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
		if err := out.row(r.row(ask)); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	if err := rows.Close(); err != nil {
		return err
	}
	if more {
		if out.page.Cursor, err = sealCursor(ask.query, ask.last); err != nil {
			return err
		}
	}
	if ask.query.GetOthers() {
		if err := ask.others(ctx, more, out.page); err != nil {
			return err
		}
	}
	return out.send(out.page)
}

// others sums up the groups behind the last one that was sent.
func (ask *question) others(ctx context.Context, more bool, page *wire.QueryPage) (err error) {
	page.Others = &wire.Measures{}
	if !more {
		return nil
	}
	ask.after, ask.args = ask.last, ask.args[:ask.bound]
	inner := ask.groups()
	condition := ask.behind()
	page.Others, page.OthersGroups, err = ask.sumUp(ctx, "("+inner+") g", condition)
	return err
}

// toMeasures makes measures of sums in their order.
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
