package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// rowset is a batch as rows.
type rowset struct {
	tables map[string][]sdk.Value // by suffix; one row after the other
	leaves string                 // of the hash chain, one after the other, hexadecimal
	host   []byte
	epoch  []byte
}

// flatten makes the rows of a batch.
func flatten(b *sdk.Batch) (*rowset, error) {
	rows := &rowset{tables: make(map[string][]sdk.Value), host: b.GetHostId(), epoch: b.GetEpoch()}
	rows.tables[mainTable] = make([]sdk.Value, 0, len(b.GetRecords())*len(flowColumns()))
	f := flattener{rowset: rows, position: flowPositions()}
	var (
		leaves strings.Builder
		text   []byte
	)
	leaves.Grow(len(b.GetRecords()) * 2 * len(sdk.Hash{}))
	for r, row := range sdk.Rows(b.Batch) {
		kind := sdk.KindOf(r)
		text = sdk.AppendCanonical(text[:0], kind, row)
		leaf := sha256.Sum256(text)
		leaves.WriteString(hex.EncodeToString(leaf[:]))
		if err := f.add(r, kind, row, text); err != nil {
			return nil, fmt.Errorf("record %d: %w", r.GetSequence(), err)
		}
	}
	rows.leaves = leaves.String()
	return rows, nil
}

// with gives the rows and that of one more record, which is not part of the batch.
func (s *rowset) with(r *wire.Record) *rowset {
	more := &rowset{tables: make(map[string][]sdk.Value), leaves: s.leaves}
	for suffix, values := range s.tables {
		more.tables[suffix] = values
	}
	gaps := append([]sdk.Value(nil), s.tables[gapsTable]...)
	gaps = append(gaps, sdk.Row(r, &wire.Batch{HostId: s.host, Epoch: s.epoch})...)
	raw, err := proto.Marshal(r)
	if err != nil {
		raw = nil // cannot be: it is made of checked texts
	}
	more.tables[gapsTable] = append(gaps, sdk.TextValue(hex.EncodeToString(raw)))
	return more
}

// flattener adds records to a rowset.
type flattener struct {
	*rowset
	position map[string]int // of flows' columns
}

func flowPositions() map[string]int {
	positions := make(map[string]int)
	for i, c := range sdk.Columns() {
		positions[c.Name] = i
	}
	return positions
}

// add adds one record, of which row and text are the flat and the canonical form.
func (f *flattener) add(r *wire.Record, kind sdk.Kind, row []sdk.Value, text []byte) error {
	switch kind {
	case sdk.KindFlow:
		suffix := mainTable
		if r.GetFlow().GetLayer() != wire.Layer_LAYER_SOCKET {
			suffix = otherTable
		}
		f.append(suffix, row, string(kind), addressKey(row[f.position["laddr"]].Text()),
			addressKey(row[f.position["raddr"]].Text()), storekit.Site(r.GetFlow().GetDomain().GetName().GetValue()))
	case sdk.KindExec:
		// As 1.0.3 did: a row without ports and addresses.
		flow := &wire.Record{Sequence: r.GetSequence(), Kind: &wire.Record_Flow{Flow: storekit.Flow(r)}}
		f.append(mainTable, sdk.Row(flow, &wire.Batch{HostId: f.host, Epoch: f.epoch}), string(kind), "", "", "")
	case sdk.KindGap, sdk.KindNotice:
		raw, err := proto.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		suffix := gapsTable
		if kind == sdk.KindNotice {
			suffix = noticesTable
		}
		f.append(suffix, row, hex.EncodeToString(raw))
	case sdk.KindVerdict:
		f.append(verdictsTable, row)
	case sdk.KindHashResolved:
		f.append(resolvedTable, row)
	default:
		f.append(eventsTable, sdk.Row(&wire.Record{Sequence: r.GetSequence()}, &wire.Batch{HostId: f.host, Epoch: f.epoch}),
			string(kind), string(text))
	}
	return nil
}

// append adds a row. Text that is neither escaped nor fit for a server, which a host could send in a field that it should
// have escaped, is escaped here: one such row must not hold up all the others.
func (s *rowset) append(suffix string, row []sdk.Value, more ...string) {
	values := s.tables[suffix]
	for _, v := range row {
		if v.Type() == sdk.Text && !fit(v.Text()) {
			v = sdk.TextValue(sdk.EscapeString(v.Text()))
		}
		values = append(values, v)
	}
	for _, text := range more {
		values = append(values, sdk.TextValue(text))
	}
	s.tables[suffix] = values
}

func fit(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}

// addressKey is an IP address as hexadecimal digits, so that a subnet is a range of them; "" for what is none.
func addressKey(text string) string {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(a.Unmap().AsSlice())
}
