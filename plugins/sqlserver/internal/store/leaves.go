package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// finder makes the leaves of the hash chain of what stands in the tables.
type finder struct {
	leaves map[int64]sdk.Hash // by sequence
	ends   map[int64][2]int64 // windows of flows, by sequence
}

// read reads the rows of a table from one sequence to another.
func (f *finder) read(ctx context.Context, w *witness, t table, r run, first, last int64) error {
	rows, err := w.session.Query(ctx, `SELECT "`+strings.Join(t.names(), `", "`)+`" FROM `+server.Quote(w.base+t.suffix)+
		` WHERE "host_id" = $1 AND "epoch" = $2 AND "seq" BETWEEN $3 AND $4`, r.host, r.epoch, first, last)
	if err != nil {
		return err
	}
	row := newRow(t)
	for rows.Next() {
		if err := rows.Scan(row.dest...); err != nil {
			return errors.Join(err, rows.Close())
		}
		f.add(row)
	}
	return rows.Close()
}

// add notes the leaf of a row. A sequence that is there twice gives a leaf that no record has.
func (f *finder) add(r *tableRow) {
	seq := r.value("seq").Number()
	leaf := r.leaf()
	if _, twice := f.leaves[seq]; twice {
		leaf = sdk.Hash{}
	}
	f.leaves[seq] = leaf
	if slices.Contains(r.table.names(), "window_end") {
		if f.ends == nil {
			f.ends = make(map[int64][2]int64)
		}
		f.ends[seq] = [2]int64{r.value("window_start").Number(), r.value("window_end").Number()}
	}
}

// span sets from when to when the windows of a batch reach.
func (f *finder) span(b stored, e *wire.BatchEvidence) {
	for seq := b.first; seq <= b.last; seq++ {
		w, ok := f.ends[seq]
		if !ok {
			continue
		}
		if e.Start == 0 || w[0] < e.Start {
			e.Start = w[0]
		}
		e.End = max(e.End, w[1])
	}
}

// tableRow is one row as it stands in a table.
type tableRow struct {
	table   table
	texts   []string
	numbers []int64
	dest    []any
	place   map[string]int
}

func newRow(t table) *tableRow {
	n := len(t.columns)
	r := &tableRow{table: t, texts: make([]string, n), numbers: make([]int64, n), dest: make([]any, n), place: make(map[string]int)}
	for i, c := range t.columns {
		r.place[c.name] = i
		if r.dest[i] = &r.numbers[i]; c.kind == sdk.Text {
			r.dest[i] = &r.texts[i]
		}
	}
	return r
}

func (r *tableRow) value(column string) sdk.Value { return r.at(r.place[column]) }

// at is the value of the i-th column.
func (r *tableRow) at(i int) sdk.Value {
	if r.table.columns[i].kind == sdk.Text {
		return sdk.TextValue(r.texts[i])
	}
	return sdk.IntegerValue(r.numbers[i])
}

// values are those of the columns that the SDK has for a kind.
func (r *tableRow) values(kind sdk.Kind) []sdk.Value {
	var list []sdk.Value
	for _, c := range sdk.ColumnsOf(kind) {
		list = append(list, r.value(c.Name))
	}
	return list
}

// leaf is the hash of the record that the row says it is. A row whose parts contradict each other gives one that no
// record has.
func (r *tableRow) leaf() sdk.Hash {
	switch r.table.suffix {
	case mainTable, otherTable:
		return r.flowLeaf()
	case gapsTable:
		return r.recordLeaf(sdk.KindGap)
	case noticesTable:
		return r.recordLeaf(sdk.KindNotice)
	case verdictsTable:
		return sdk.Leaf(sdk.KindVerdict, r.values(sdk.KindVerdict))
	case resolvedTable:
		return sdk.Leaf(sdk.KindHashResolved, r.values(sdk.KindHashResolved))
	}
	return sha256.Sum256([]byte(r.value("fields").Text()))
}

func (r *tableRow) flowLeaf() sdk.Hash {
	kind := sdk.Kind(r.value(kindColumn).Text())
	local, remote := r.value("laddr").Text(), r.value("raddr").Text()
	sound := r.value(localIndex).Text() == addressKey(local) && r.value(remoteIndex).Text() == addressKey(remote)
	// An execution exchanged nothing; otherwise bytes could be added to its row unseen.
	if kind == sdk.KindExec {
		sound = sound && r.idle()
	} else if kind != sdk.KindFlow {
		sound = false
	}
	if socket := r.value("layer").Text() == "socket"; kind == sdk.KindFlow && socket != (r.table.suffix == mainTable) {
		sound = false // in the other table it would count, or would not
	}
	if !sound {
		return sdk.Hash{}
	}
	return sdk.Leaf(kind, r.values(kind))
}

// idle says that an execution's row has in the columns of flows what a flow without any contents has.
func (r *tableRow) idle() bool {
	empty := sdk.Row(&wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{}}}, &wire.Batch{})
	known := sdk.ColumnsOf(sdk.KindExec)
	for i, c := range sdk.Columns() {
		if !slices.ContainsFunc(known, func(k sdk.Column) bool { return k.Name == c.Name }) && r.value(c.Name) != empty[i] {
			return false
		}
	}
	return true
}

// recordLeaf is that of a row which also holds the record that queries answer with: both must say the same.
func (r *tableRow) recordLeaf(kind sdk.Kind) sdk.Hash {
	values := r.values(kind)
	record, err := decodeRecord(r.value("record").Text())
	if err != nil || sdk.KindOf(record) != kind {
		return sdk.Hash{}
	}
	host, epoch := decoded(r.value("host_id").Text()), decoded(r.value("epoch").Text())
	if !slices.Equal(values, sdk.Row(record, &wire.Batch{HostId: host, Epoch: epoch})) {
		return sdk.Hash{}
	}
	return sdk.Leaf(kind, values)
}
