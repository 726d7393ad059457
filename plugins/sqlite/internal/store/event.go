package store

import (
	"database/sql/driver"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// shelf is a table of records that are kept whole, beside columns made of them: for people, and to find them by time.
type shelf struct {
	table   string
	columns string                                         // the first is the time that retention goes by
	values  func(r *wire.Record, now int64) []driver.Value // of the columns; a record without a time gets now
}

// shelves are all of them: of notices, of gaps, and of kinds that have no table of their own.
func shelves() (notices, gaps, others shelf) {
	notices = shelf{"notices", "time, kind, text, exe", func(r *wire.Record, now int64) []driver.Value {
		n := r.GetNotice()
		return []driver.Value{known(n.GetTime(), now), sdk.NoticeWord(n.GetKind()), sdk.Escape(n.GetText().GetValue()),
			sdk.Escape(n.GetProcess().GetExecutable().GetPath().GetValue())}
	}}
	gaps = shelf{"gaps", "ended, started, reason, cause, events, sent, received", func(r *wire.Record, now int64) []driver.Value {
		g := r.GetGap()
		start, end := g.GetStart(), g.GetEnd()
		if start == 0 && end == 0 {
			start, end = now, now
		}
		return []driver.Value{end, start, sdk.GapWord(g.GetReason()), sdk.EscapeString(g.GetCause()), int64(g.GetEvents()),
			int64(g.GetSent()), int64(g.GetReceived())}
	}}
	others = shelf{"events", "time, kind", func(r *wire.Record, now int64) []driver.Value {
		return []driver.Value{known(timeOf(r), now), string(sdk.KindOf(r))}
	}}
	return notices, gaps, others
}

// keep stores a record whole and tells its time; batch is nil for a gap that this store found missing itself.
func (w *writer) keep(s shelf, batch driver.Value, r *wire.Record) (int64, error) {
	raw, err := proto.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("encode: %w", err)
	}
	values := s.values(r, w.now().UnixNano())
	time, _ := values[0].(int64)
	_, err = w.conn.exec("INSERT INTO "+s.table+" (batch, sequence, record, "+s.columns+") VALUES (?, ?, ?"+
		strings.Repeat(", ?", len(values))+")", append([]driver.Value{batch, int64(r.GetSequence()), raw}, values...)...)
	return time, err
}

// known is a time, or now where there is none: retention would take what has none for old, delete it at once, and the batch
// would seem to lack it.
func known(at, now int64) int64 {
	if at == 0 {
		return now
	}
	return at
}

// timeOf is when a record of a kind without a table of its own was made, 0 when it does not say.
func timeOf(r *wire.Record) int64 {
	switch k := r.GetKind().(type) {
	case *wire.Record_Listen:
		return k.Listen.GetTime()
	case *wire.Record_Name:
		return k.Name.GetTime()
	case *wire.Record_Verdict:
		return k.Verdict.GetTime()
	case *wire.Record_Config:
		return k.Config.GetTime()
	case *wire.Record_HashResolved:
		return k.HashResolved.GetTime()
	}
	return 0
}
