package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	evidenceRecords = 8192 // records looked at together
	evidencePage    = 256  // batches in a page
	maxNamed        = 1000 // sequences named in one batch
)

// Evidence tells of every batch whether its rows still give the root that came with it, see [sdk.Witness].
func (s *Store) Evidence(ctx context.Context, r *wire.EvidenceRequest, page func(*wire.EvidencePage) error) error {
	return s.reading(ctx, func(a *answerer) error {
		w := &witness{session: a.session, base: a.base, page: &wire.EvidencePage{},
			send: func(p *wire.EvidencePage) error { return a.refuse(page(p)) }}
		if len(r.GetEpoch()) > 0 {
			return w.one(ctx, run{hex.EncodeToString(r.GetHostId()), hex.EncodeToString(r.GetEpoch())}, int64(r.GetFirst()))
		}
		return w.testify(ctx, hex.EncodeToString(r.GetHostId()))
	})
}

// witness goes through the batches over one session.
type witness struct {
	session server.Session
	base    string
	told    bool // leaves are part of the answer
	page    *wire.EvidencePage
	send    func(*wire.EvidencePage) error
}

// run is one run of a host.
type run struct{ host, epoch string }

// testify tells of every batch, and then of rows that no batch has.
func (w *witness) testify(ctx context.Context, host string) error {
	runs, err := w.runs(ctx, host)
	if err != nil {
		return err
	}
	strays := &strays{witness: w, host: host, runs: make(map[run]*cover)}
	for _, r := range runs {
		for after := int64(math.MinInt64); ; {
			batches, err := w.batches(ctx, r, after)
			if err != nil {
				return err
			}
			if len(batches) == 0 {
				break
			}
			strays.skip(r, batches)
			if err := w.check(ctx, r, batches); err != nil {
				return err
			}
			after = batches[len(batches)-1].first
		}
	}
	if err := strays.find(ctx); err != nil {
		return err
	}
	return w.flush()
}

// one tells of the batch of a run that begins there, with its leaves.
func (w *witness) one(ctx context.Context, r run, first int64) error {
	batches, err := w.batches(ctx, r, first-1)
	if err != nil || len(batches) == 0 || batches[0].first != first {
		return err
	}
	w.told = true
	if err := w.check(ctx, r, batches[:1]); err != nil {
		return err
	}
	return w.flush()
}

// flush sends what is left of the last page.
func (w *witness) flush() error {
	if len(w.page.Batches) == 0 {
		return nil
	}
	return w.send(w.page)
}

// runs lists the hosts' runs, of one host if it is named, in the order in which they began.
func (w *witness) runs(ctx context.Context, host string) ([]run, error) {
	return w.listed(ctx, batchesTable, host, `min("number"), `)
}

// listed lists the runs that a table has rows of, host by host.
func (w *witness) listed(ctx context.Context, suffix, host, order string) ([]run, error) {
	rows, err := w.session.Query(ctx, `SELECT "host_id", "epoch" FROM `+server.Quote(w.base+suffix)+
		` WHERE "host_id" = $1 OR $2 = '' GROUP BY "host_id", "epoch" ORDER BY "host_id", `+order+`"epoch"`, host, host)
	if err != nil {
		return nil, err
	}
	var runs []run
	for rows.Next() {
		var r run
		if err := rows.Scan(&r.host, &r.epoch); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		runs = append(runs, r)
	}
	return runs, rows.Close()
}

// stored is a row of the table of batches.
type stored struct {
	first, last            int64
	previous, root, leaves string
}

// batches reads the next batches of a run, about as many as are looked at together.
func (w *witness) batches(ctx context.Context, r run, after int64) ([]stored, error) {
	rows, err := w.session.Query(ctx, `SELECT "first", "last", "previous", "root", "leaves" FROM `+
		server.Quote(w.base+batchesTable)+` WHERE "host_id" = $1 AND "epoch" = $2 AND "first" > $3 ORDER BY "first" LIMIT 64`,
		r.host, r.epoch, after)
	if err != nil {
		return nil, err
	}
	var list []stored
	for rows.Next() {
		var b stored
		if err := rows.Scan(&b.first, &b.last, &b.previous, &b.root, &b.leaves); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		if len(list) > 0 && (!b.possible() || !list[0].possible() || b.last-list[0].first >= evidenceRecords) {
			break // another time, so that what is looked at together stays small
		}
		list = append(list, b)
	}
	return list, rows.Close()
}

// possible says whether a host can have sent a batch of this range.
func (b stored) possible() bool {
	return b.first >= 1 && b.last >= b.first && b.last-b.first < wire.MaxBatchRecords
}

// check compares the rows of some batches of a run with what is stored about the batches.
func (w *witness) check(ctx context.Context, r run, batches []stored) error {
	f := &finder{leaves: make(map[int64]sdk.Hash)}
	for _, t := range tables() {
		if t.suffix == batchesTable || !batches[0].possible() {
			continue
		}
		if err := f.read(ctx, w, t, r, batches[0].first, batches[len(batches)-1].last); err != nil {
			return fmt.Errorf("read %s: %w", w.base+t.suffix, err)
		}
	}
	for _, b := range batches {
		if err := w.add(b.judge(r, f, w.told)); err != nil {
			return err
		}
	}
	return nil
}

// add puts evidence on the page, and sends it when it is full.
func (w *witness) add(e *wire.BatchEvidence) error {
	if w.page.Batches = append(w.page.Batches, e); len(w.page.Batches) < evidencePage {
		return nil
	}
	page := w.page
	w.page = &wire.EvidencePage{}
	return w.send(page)
}

// judge compares a batch with the leaves that its rows give. told says that they are part of the answer.
func (b stored) judge(r run, f *finder, told bool) *wire.BatchEvidence {
	e := &wire.BatchEvidence{HostId: decoded(r.host), Epoch: decoded(r.epoch), First: uint64(b.first), Last: uint64(b.last),
		Previous: decoded(b.previous), Root: decoded(b.root), State: wire.BatchEvidence_SOUND}
	if !b.possible() {
		e.State = wire.BatchEvidence_ALTERED
		return e
	}
	kept := decoded(b.leaves)
	if len(kept) != int(b.last-b.first+1)*len(sdk.Hash{}) {
		kept = nil
	}
	var leaves, said []sdk.Hash
	for seq := b.first; seq <= b.last; seq++ {
		leaf, ok := f.leaves[seq]
		leaves = append(leaves, leaf)
		if told {
			e.Leaves = append(e.Leaves, leaf[:]...)
		}
		if kept != nil {
			said = append(said, sdk.Hash(kept[(seq-b.first)*int64(len(leaf)):][:len(leaf)]))
		}
		switch {
		case !ok && len(e.Missing) < maxNamed:
			e.Missing = append(e.Missing, uint64(seq))
		case ok && kept != nil && leaf != said[len(said)-1] && len(e.Altered) < maxNamed:
			e.Altered = append(e.Altered, uint64(seq))
		}
	}
	f.span(b, e)
	root := sdk.Root(leaves)
	switch {
	case len(e.Missing) > 0 || len(e.Altered) > 0:
		e.State = wire.BatchEvidence_ALTERED
	case len(e.Root) == 0:
		e.State = wire.BatchEvidence_UNKNOWN // the host that sent it made no chain
	case string(root[:]) != string(e.Root):
		e.State = wire.BatchEvidence_ALTERED
	}
	return e
}

// decoded is nil for what is not hexadecimal: it agrees with nothing then.
func decoded(text string) []byte {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil
	}
	return raw
}
