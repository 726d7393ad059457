package main

import (
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// meaning says how to show a column's values.
type meaning int

const (
	plain   meaning = iota // text, printable, or a number
	size                   // bytes
	moment                 // UTC nanoseconds
	counted                // a number for programs, left out of the table
)

// field is a column of an answer.
type field struct {
	name  string
	means meaning
}

// answer turns pages into rows of a sink.
type answer struct {
	query  *wire.Query
	sink   sink
	totals []any
	others []any  // nil when nobody asked, or nothing was left out
	groups uint64 // in others
	rows   int
	more   bool
	cursor []byte // where the rest begins, with more
}

func newAnswer(q *wire.Query, s sink) *answer {
	a := &answer{query: q, sink: s}
	s.begin(a.fields())
	return a
}

// measureNames are the sums, as orders and --json name them.
func measureNames() []string {
	return []string{"sent", "received", "rows", "sends", "receives", "connects", "accepts", "failures"}
}

func measures(m *wire.Measures) []any {
	return []any{m.GetSent(), m.GetReceived(), m.GetRows(), m.GetSends(), m.GetReceives(), m.GetConnects(), m.GetAccepts(), m.GetFailures()}
}

func (a *answer) fields() []field {
	switch a.query.GetWhat() {
	case wire.Query_GAPS:
		return gapFields()
	case wire.Query_NOTICES:
		return noticeFields()
	}
	var all []field
	if a.query.GetBucket() != 0 {
		all = append(all, field{"bucket", moment})
	}
	for _, name := range a.query.GetBy() {
		all = append(all, field{name, plain})
	}
	for i, name := range measureNames() {
		means := counted
		switch i {
		case 0, 1:
			means = size
		case 2:
			means = plain
		}
		all = append(all, field{name, means})
	}
	return all
}

// page writes the rows of a page.
func (a *answer) page(p *wire.QueryPage) error {
	if p.GetTotals() != nil {
		a.totals = measures(p.GetTotals())
	}
	if p.GetOthers() != nil && p.GetOthersGroups() > 0 {
		a.others, a.groups = measures(p.GetOthers()), p.GetOthersGroups()
	}
	a.cursor = p.GetCursor()
	a.more = len(a.cursor) > 0
	for _, r := range p.GetRows() {
		if err := a.row(a.flow(r)); err != nil {
			return err
		}
	}
	for _, g := range p.GetGaps() {
		if err := a.row(gapRow(g)); err != nil {
			return err
		}
	}
	for _, n := range p.GetNotices() {
		if err := a.row(noticeRow(n)); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) row(values []any) error {
	a.rows++
	return a.sink.row(values)
}

// flow is a row of sums. A store that sends too few values has the rest empty.
func (a *answer) flow(r *wire.QueryRow) []any {
	var values []any
	if a.query.GetBucket() != 0 {
		values = append(values, r.GetBucket())
	}
	for i := range a.query.GetBy() {
		var v *wire.Value
		if i < len(r.GetValues()) {
			v = r.GetValues()[i]
		}
		if n, ok := v.GetKind().(*wire.Value_Number); ok {
			values = append(values, n.Number)
		} else {
			values = append(values, sdk.Escape(v.GetText()))
		}
	}
	return append(values, measures(r.GetMeasures())...)
}

// end finishes the answer. What the sums over the rest tell needs no cursor.
func (a *answer) end() error {
	a.more = a.more && a.others == nil
	e := ending{totals: a.totals, others: a.others, groups: a.groups}
	if a.more {
		e.cursor = cursorText(a.cursor)
	}
	return a.sink.end(e)
}

func gapFields() []field {
	return []field{
		{"start", moment}, {"end", moment}, {"reason", plain}, {"cause", plain}, {"events", plain}, {"sent", size},
		{"received", size}, {"sink", plain}, {"exe", plain}, {"first", counted}, {"last", counted},
	}
}

func gapRow(g *wire.Gap) []any {
	return []any{
		g.GetStart(), g.GetEnd(), sdk.GapWord(g.GetReason()), sdk.EscapeString(g.GetCause()), g.GetEvents(), g.GetSent(),
		g.GetReceived(), sdk.EscapeString(g.GetSink()), escaped(g.GetProcess().GetExecutable().GetPath()), g.GetFirst(), g.GetLast(),
	}
}

func noticeFields() []field {
	return []field{
		{"time", moment}, {"notice", plain}, {"text", plain}, {"exe", plain}, {"name", plain}, {"pid", plain}, {"uid", plain},
	}
}

func noticeRow(n *wire.Notice) []any {
	p := n.GetProcess()
	return []any{
		n.GetTime(), sdk.NoticeWord(n.GetKind()), escaped(n.GetText()), escaped(p.GetExecutable().GetPath()),
		escaped(p.GetName()), uint64(p.GetId().GetTgid()), uint64(p.GetRuid()),
	}
}

func escaped(t *wire.Text) string { return sdk.Escape(t.GetValue()) }
