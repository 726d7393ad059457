package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func encode(r *wire.Record) ([]byte, error) {
	raw, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return raw, nil
}

func (w *writer) notice(batch int64, r *wire.Record, n *wire.Notice) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	_, err = w.conn.exec("INSERT INTO notices (batch, sequence, time, kind, text, exe, record) VALUES (?, ?, ?, ?, ?, ?, ?)",
		batch, int64(r.GetSequence()), w.known(n.GetTime()), sdk.NoticeWord(n.GetKind()), sdk.Escape(n.GetText().GetValue()),
		sdk.Escape(n.GetProcess().GetExecutable().GetPath().GetValue()), raw)
	return err
}

// gap stores a gap; batch is nil for one that this store found missing itself.
func (w *writer) gap(batch any, r *wire.Record, g *wire.Gap) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	start, end := g.GetStart(), g.GetEnd()
	if start == 0 && end == 0 {
		start, end = w.known(0), w.known(0)
	}
	_, err = w.conn.exec(`INSERT INTO gaps (batch, sequence, started, ended, reason, cause, events, sent, received, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, batch, int64(r.GetSequence()), start, end, sdk.GapWord(g.GetReason()),
		sdk.EscapeString(g.GetCause()), int64(g.GetEvents()), int64(g.GetSent()), int64(g.GetReceived()), raw)
	return err
}

// event keeps a record of a kind that has no table of its own yet.
func (w *writer) event(batch int64, r *wire.Record, time int64) error {
	raw, err := encode(r)
	if err != nil {
		return err
	}
	_, err = w.conn.exec("INSERT INTO events (batch, sequence, time, kind, record) VALUES (?, ?, ?, ?, ?)",
		batch, int64(r.GetSequence()), time, string(sdk.KindOf(r)), raw)
	return err
}
