package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	evidencePage = 256  // batches
	maxNamed     = 1000 // sequences named per batch
)

// Evidence makes the Merkle root of every batch again from the rows themselves, see [sdk.Witness]. Which flow was changed
// cannot be told from a root: only what is missing, or too much, is named, and what is kept whole beside its columns.
func (s *Store) Evidence(ctx context.Context, r *wire.EvidenceRequest, page func(*wire.EvidencePage) error) error {
	return s.reading(ctx, func(tx *sql.Tx) error {
		out := &wire.EvidencePage{}
		err := eachProof(ctx, tx, r, func(e *wire.BatchEvidence) error {
			if out.Batches = append(out.Batches, e); len(out.Batches) < evidencePage {
				return nil
			}
			full := out
			out = &wire.EvidencePage{}
			return page(full)
		})
		if err != nil {
			return err
		}
		return page(out)
	})
}

// reading runs f in a transaction that sees one state of the file.
func (s *Store) reading(ctx context.Context, f func(*sql.Tx) error) error {
	readers := s.readers.Load()
	if readers == nil {
		return errNotOpen
	}
	tx, err := readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it only read
	err = f(tx)
	if ctx.Err() != nil {
		return ctx.Err() // the driver's word for it is an interrupted statement
	}
	return err
}

// proof is what is known of a batch before its rows are looked at.
type proof struct {
	*wire.BatchEvidence
	id, start, stop int64
	found           map[uint64]sdk.Hash // leaves of the rows that there are
}

// add notes the leaf of a row. One that the batch does not have, or has already, is too much.
func (p proof) add(sequence uint64, leaf sdk.Hash) {
	if _, twice := p.found[sequence]; !twice && sequence >= p.First && sequence <= p.Last {
		p.found[sequence] = leaf
	} else if len(p.Extra) < maxNamed {
		p.Extra = append(p.Extra, sequence)
	}
}

// eachProof calls take with the evidence of each batch that the host delivered, run by run, and then with rows of none.
func eachProof(ctx context.Context, tx *sql.Tx, r *wire.EvidenceRequest, take func(*wire.BatchEvidence) error) error {
	var floor int64
	if err := tx.QueryRowContext(ctx, "SELECT value FROM state WHERE name = 'floor'").Scan(&floor); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	rows, err := newFlattener(ctx, tx, true)
	if err != nil {
		return err
	}
	defer rows.close()
	leaf := leafMaker()
	for after := (proof{BatchEvidence: &wire.BatchEvidence{}}); ; {
		list, err := proofs(ctx, tx, r, after)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return strays(ctx, tx, r, take)
		}
		for _, p := range list {
			p.found = make(map[uint64]sdk.Hash)
			err := rows.each(ctx, "f.id BETWEEN ? AND ?", []any{p.start, p.stop}, func(row flatRow) error {
				p.add(uint64(row.sequence), leaf(row))
				return nil
			})
			if err == nil {
				err = keptWhole(ctx, tx, p)
			}
			if err != nil {
				return err
			}
			p.judge(floor, len(r.GetEpoch()) > 0)
			if err := take(p.BatchEvidence); err != nil {
				return err
			}
		}
		after = list[len(list)-1]
	}
}

// leafMaker gives the function that makes the leaf of a row, which may be a flow or an execution.
func leafMaker() func(flatRow) sdk.Hash {
	flow, exec := canonical(sdk.KindFlow), canonical(sdk.KindExec)
	return func(r flatRow) sdk.Hash {
		if r.kind == kindExec {
			return sdk.Leaf(sdk.KindExec, exec(r.values))
		}
		return sdk.Leaf(sdk.KindFlow, flow(r.values))
	}
}

// proofs reads some batches behind another one, in the order of their runs and sequences.
func proofs(ctx context.Context, tx *sql.Tx, r *wire.EvidenceRequest, after proof) ([]proof, error) {
	rows, err := tx.QueryContext(ctx, `SELECT b.id, e.host_id, e.epoch, b.first, b.last, b.previous, b.root, b.oldest, b.newest,
b.start, b.stop FROM batches b JOIN epochs e ON e.id = b.epoch WHERE e.origin = '' AND (length(?1) = 0 OR e.host_id = ?1)
AND (length(?4) = 0 OR e.epoch = ?4 AND b.first = ?5)
AND (b.epoch, b.first) > (coalesce((SELECT epoch FROM batches WHERE id = ?2), 0), ?3) ORDER BY b.epoch, b.first LIMIT 256`,
		blob(r.GetHostId()), after.id, int64(after.First), blob(r.GetEpoch()), int64(r.GetFirst()))
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	defer rows.Close()
	var list []proof
	for rows.Next() {
		p := proof{BatchEvidence: &wire.BatchEvidence{}}
		var first, last int64
		if err := rows.Scan(&p.id, &p.HostId, &p.Epoch, &first, &last, &p.Previous, &p.Root, &p.Start, &p.End, &p.start, &p.stop); err != nil {
			return nil, fmt.Errorf("evidence: %w", err)
		}
		p.First, p.Last = uint64(first), uint64(last)
		list = append(list, p)
	}
	return list, rows.Err()
}

// canonical picks the columns of a kind out of a flat row of a flow.
func canonical(kind sdk.Kind) func([]sdk.Value) []sdk.Value {
	positions := make(map[string]int)
	for i, c := range sdk.Columns() {
		positions[c.Name] = i
	}
	columns := sdk.ColumnsOf(kind)
	row := make([]sdk.Value, len(columns))
	return func(flat []sdk.Value) []sdk.Value {
		for i, c := range columns {
			row[i] = flat[positions[c.Name]]
		}
		return row
	}
}

// keptWhole adds the leaves of records that are kept as they came. One whose columns, which people read, do not say the same
// was altered, and has no leaf that fits.
func keptWhole(ctx context.Context, tx *sql.Tx, p proof) error {
	notices, gaps, others := shelves()
	for _, s := range []shelf{notices, gaps, others} {
		if err := p.shelf(ctx, tx, s); err != nil {
			return fmt.Errorf("evidence: %w", err)
		}
	}
	return nil
}

func (p proof) shelf(ctx context.Context, tx *sql.Tx, s shelf) error {
	rows, err := tx.QueryContext(ctx, "SELECT record, "+s.columns+" FROM "+s.table+" WHERE batch = ? ORDER BY id", p.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	var raw []byte
	shown := make([]any, 1+strings.Count(s.columns, ","))
	dest := []any{&raw}
	for i := range shown {
		dest = append(dest, &shown[i])
	}
	b := &wire.Batch{HostId: p.HostId, Epoch: p.Epoch}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		r := &wire.Record{}
		if proto.Unmarshal(raw, r) != nil {
			continue // it is missing, which is said
		}
		leaf := sdk.Leaf(sdk.KindOf(r), sdk.Row(r, b))
		if time, _ := shown[0].(int64); !slices.EqualFunc(shown, s.values(r, time), func(a any, b driver.Value) bool { return a == b }) {
			leaf = sdk.Hash{}
			p.Altered = append(p.Altered, r.GetSequence())
		}
		p.add(r.GetSequence(), leaf)
	}
	return rows.Err()
}

// strays tells of rows that no batch has: their number lies in the range of none.
func strays(ctx context.Context, tx *sql.Tx, r *wire.EvidenceRequest, take func(*wire.BatchEvidence) error) error {
	if len(r.GetEpoch()) > 0 {
		return nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT e.host_id, e.epoch, f.sequence FROM flows f JOIN batches b ON b.id = f.batch
JOIN epochs e ON e.id = b.epoch WHERE f.id NOT BETWEEN b.start AND b.stop AND (length(?1) = 0 OR e.host_id = ?1)
ORDER BY e.id, f.sequence LIMIT ?2`, blob(r.GetHostId()), maxNamed)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	defer rows.Close()
	var list []*wire.BatchEvidence
	for rows.Next() {
		var (
			host, epoch []byte
			sequence    int64
		)
		if err := rows.Scan(&host, &epoch, &sequence); err != nil {
			return fmt.Errorf("evidence: %w", err)
		}
		if n := len(list); n == 0 || !bytes.Equal(list[n-1].Epoch, epoch) || !bytes.Equal(list[n-1].HostId, host) {
			list = append(list, &wire.BatchEvidence{HostId: host, Epoch: epoch, State: wire.BatchEvidence_ALTERED})
		}
		last := list[len(list)-1]
		last.Extra = append(last.Extra, uint64(sequence))
	}
	for _, e := range list {
		if err := take(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

// judge compares the leaves that there are with the root. told says that they are part of the answer.
func (p proof) judge(floor int64, told bool) {
	list := make([]sdk.Hash, 0, len(p.found))
	complete := true
	for sequence := p.First; sequence <= p.Last; sequence++ {
		leaf, ok := p.found[sequence]
		if told {
			p.Leaves = append(p.Leaves, leaf[:]...)
		}
		if ok {
			list = append(list, leaf)
			continue
		}
		complete = false
		if len(p.Missing) < maxNamed {
			p.Missing = append(p.Missing, sequence)
		}
	}
	root := sdk.Root(list)
	switch {
	case !complete && p.Start < floor:
		p.State, p.Missing = wire.BatchEvidence_EXPIRED, nil
	case len(p.Extra) > 0:
		p.State = wire.BatchEvidence_ALTERED
	case len(p.Root) != len(root):
		p.State = wire.BatchEvidence_UNKNOWN // it came without one: it was made for this store alone
	case complete && bytes.Equal(root[:], p.Root):
		p.State = wire.BatchEvidence_SOUND
	default:
		p.State = wire.BatchEvidence_ALTERED
	}
}
