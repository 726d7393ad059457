package store

import (
	"database/sql/driver"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const flowColumnNames = `id, batch, sequence, kind, window, actor, remote, trait, lport, socket, sent, received, sends,
receives, connects, accepts, failures, listens`

// load is a batch on its way into the tables.
type load struct {
	*sdk.Batch
	id       int64 // of its row
	next     int64 // id of the next flow
	flows    *inserter
	tally    *tally
	dated    bool  // oldest and newest are known
	oldest   int64 // end of the earliest and the latest window of its flows, or time of what it has besides
	newest   int64
	segments [][]byte
	after    []func() error // what refers to flows, which are inserted late
}

// flow stores a flow, in terms of tables of this package; the SDK's flat row tells the same in terms of `connections`.
func (w *writer) flow(l *load, segment []byte, r *wire.Record, f *wire.Flow) error {
	until := f.GetWindow().GetEnd()
	window, err := w.in.window(f.GetWindow())
	if err != nil {
		return err
	}
	who, err := w.in.actor(segment, f, until)
	if err != nil {
		return err
	}
	remote, err := w.in.remote(f, until)
	if err != nil {
		return err
	}
	trait, err := w.in.trait(f, until)
	if err != nil {
		return err
	}
	id, kind := l.number(until), kindOfFlow(r, f)
	err = l.flows.add(append(l.flows.row(), id, l.id, int64(r.GetSequence()), kind, window, who.id, remote, trait,
		port(f.GetLocal()), int64(f.GetSocket()), int64(f.GetSent()), int64(f.GetReceived()), int64(f.GetSends()),
		int64(f.GetReceives()), int64(f.GetConnects()), int64(f.GetAccepts()), int64(f.GetFailures()), int64(f.GetListens())))
	if err != nil {
		return err
	}
	if kind != kindOther {
		l.tally.add(until, who.program, remote, f)
	}
	w.rare(l, id, f)
	return nil
}

// number gives the next flow its id; its window ended at the time.
func (l *load) number(ended int64) (id int64) {
	id = l.next
	l.next++
	l.reach(ended)
	return id
}

// reach has the batch's span reach to a time that retention goes by.
func (l *load) reach(time int64) {
	if !l.dated {
		l.dated, l.oldest, l.newest = true, time, time
	}
	l.oldest, l.newest = min(l.oldest, time), max(l.newest, time)
}

func kindOfFlow(r *wire.Record, f *wire.Flow) int64 {
	switch {
	case r.GetExec() != nil:
		return kindExec
	case f.GetLayer() == wire.Layer_LAYER_SOCKET:
		return kindSocket
	}
	return kindOther
}

// rare notes what hardly any flow has, for when the flows are inserted.
func (w *writer) rare(l *load, id int64, f *wire.Flow) {
	candidates, truncated := w.in.rare(l.Batch, f)
	if f.GetFoldedPeers() != 0 || candidates != "" || truncated != "" {
		l.after = append(l.after, func() error {
			_, err := w.conn.exec("INSERT INTO flow_rare (flow, folded_peers, candidates, truncated) VALUES (?, ?, ?, ?)",
				id, int64(f.GetFoldedPeers()), candidates, truncated)
			return err
		})
	}
	if names := len(f.GetDomains()); names > 1 || names == 1 && f.GetDomain() == nil {
		l.after = append(l.after, func() error { return w.domains(id, f) })
	}
}

// domains stores the names of a flow beyond the one in its row.
func (w *writer) domains(flow int64, f *wire.Flow) error {
	for n, d := range f.GetDomains() {
		name, err := w.in.domain(d.GetName(), f.GetWindow().GetEnd())
		if err != nil {
			return err
		}
		_, err = w.conn.exec("INSERT INTO flow_domains (flow, position, domain, source, age, scope) VALUES (?, ?, ?, ?, ?, ?)",
			flow, int64(n), name, sdk.NameSourceWord(d.GetSource()), d.GetAge(), sdk.EscapeString(d.GetScope()))
		if err != nil {
			return err
		}
	}
	return nil
}

// rare gives two columns that hardly any flow has, and for which the whole flat row must be made.
func (in *interner) rare(b *sdk.Batch, f *wire.Flow) (candidates, truncated string) {
	cut := f.GetDomain().GetName().GetTruncated()
	for _, p := range []*wire.Process{f.GetProcess(), f.GetParent(), f.GetGrandparent()} {
		x := p.GetExecutable()
		for _, t := range []*wire.Text{p.GetName(), p.GetCommandLine(), p.GetClaimedCommandLine(), p.GetCgroup().GetPath(),
			x.GetPath(), x.GetScript()} {
			cut = cut || t.GetTruncated()
		}
	}
	if !cut && len(f.GetCandidates()) == 0 {
		return "", ""
	}
	whole := &wire.Flow{Domain: f.GetDomain(), Candidates: f.GetCandidates(), Process: f.GetProcess(), Parent: f.GetParent(),
		Grandparent: f.GetGrandparent()}
	row := sdk.Row(&wire.Record{Kind: &wire.Record_Flow{Flow: whole}}, b.Batch)
	return row[in.columns["candidates"]].Text(), row[in.columns["truncated"]].Text()
}

func port(e *wire.Endpoint) int64 {
	if e == nil {
		return -1
	}
	return int64(e.GetPort())
}

// contime is the end of a window as a clock on the recording host's wall showed it.
func (in *interner) contime(w *wire.Window) driver.Value {
	row := sdk.Row(&wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{Window: w}}}, &wire.Batch{})
	return row[in.columns["contime"]].Any()
}
