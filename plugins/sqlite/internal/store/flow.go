package store

import (
	"database/sql/driver"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const flowColumnNames = `batch, sequence, kind, window, process, parent, grandparent, laddr, raddr, domain, candidates,
truncated, sent, received, sends, receives, connects, accepts, failures, listens, lport, rport, direction, result, layer,
family, protocol, peer, domain_source, mapped, folded_peers, socket, netns, ifindex, attribution, counting, existing,
icmp_type, icmp_code`

const insertFlow = "INSERT INTO flows (" + flowColumnNames + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// ids are the interned parts of a row of flows, in the order of its columns.
type ids struct{ window, process, parent, grandparent, laddr, raddr, domain int64 }

// flow stores a flow, in terms of tables of this package; the SDK's flat row tells the same in terms of `connections`.
func (w *writer) flow(b *sdk.Batch, batch int64, r *wire.Record, f *wire.Flow) error {
	i, err := w.in.flow(f)
	if err != nil {
		return err
	}
	candidates, truncated := w.in.rare(b, r, f)
	kind := int64(kindOther)
	if f.GetLayer() == wire.Layer_LAYER_SOCKET {
		kind = kindSocket
	}
	id, err := w.conn.insert(insertFlow, batch, int64(r.GetSequence()), kind, i.window, i.process, i.parent, i.grandparent,
		i.laddr, i.raddr, i.domain, candidates, truncated,
		int64(f.GetSent()), int64(f.GetReceived()), int64(f.GetSends()), int64(f.GetReceives()), int64(f.GetConnects()),
		int64(f.GetAccepts()), int64(f.GetFailures()), int64(f.GetListens()), port(f.GetLocal()), port(f.GetRemote()),
		int64(f.GetDirection()), int64(f.GetResult()), int64(f.GetLayer()), int64(f.GetFamily()), int64(f.GetProtocol()),
		int64(f.GetPeer()), int64(f.GetDomain().GetSource()), truth(f.GetLocal().GetMapped() || f.GetRemote().GetMapped()),
		int64(f.GetFoldedPeers()), int64(f.GetSocket()), int64(f.GetNetns()), int64(f.GetIfindex()),
		int64(f.GetAttribution()), int64(f.GetCounting()), truth(f.GetExisting()), int64(f.GetIcmpType()),
		int64(f.GetIcmpCode()))
	if err != nil {
		return err
	}
	return w.domains(id, f)
}

// domains stores the names of a flow beyond the one in its row.
func (w *writer) domains(flow int64, f *wire.Flow) error {
	if len(f.GetDomains()) < 2 {
		return nil
	}
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

// exec stores an execution as 1.0.3 did, as a row without ports and addresses.
func (w *writer) exec(b *sdk.Batch, batch int64, r *wire.Record, e *wire.Exec) error {
	f := &wire.Flow{Window: e.GetWindow(), Process: e.GetProcess(), Parent: e.GetParent(), Grandparent: e.GetGrandparent()}
	i, err := w.in.flow(f)
	if err != nil {
		return err
	}
	candidates, truncated := w.in.rare(b, r, f)
	values := []driver.Value{batch, int64(r.GetSequence()), int64(kindExec), i.window, i.process, i.parent, i.grandparent,
		i.laddr, i.raddr, i.domain, candidates, truncated}
	for range strings.Count(flowColumnNames, ",") + 1 - len(values) {
		values = append(values, int64(0))
	}
	const lport, rport = 20, 21
	values[lport], values[rport] = int64(-1), int64(-1)
	_, err = w.conn.insert(insertFlow, values...)
	return err
}

// flow interns what a flow shares with others.
func (in *interner) flow(f *wire.Flow) (i ids, err error) {
	until := f.GetWindow().GetEnd()
	if i.window, err = in.window(f.GetWindow()); err != nil {
		return i, err
	}
	for _, p := range []struct {
		id *int64
		of *wire.Process
	}{{&i.process, f.GetProcess()}, {&i.parent, f.GetParent()}, {&i.grandparent, f.GetGrandparent()}} {
		if *p.id, err = in.process(p.of, until); err != nil {
			return i, err
		}
	}
	if i.laddr, err = in.address(f.GetLocal(), until); err != nil {
		return i, err
	}
	if i.raddr, err = in.address(f.GetRemote(), until); err != nil {
		return i, err
	}
	i.domain, err = in.domain(f.GetDomain().GetName(), until)
	return i, err
}

// rare gives two columns that hardly any flow has, and for which the whole flat row must be made.
func (in *interner) rare(b *sdk.Batch, r *wire.Record, f *wire.Flow) (candidates, truncated string) {
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
	whole := &wire.Record{Sequence: r.GetSequence(), Kind: &wire.Record_Flow{Flow: f}}
	row := sdk.Row(whole, b.Batch)
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
