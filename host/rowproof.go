package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	maxRows    = 100 // that are named
	maxColumns = 5   // that are told of one row
	maxValue   = 80  // characters of a value
)

// difference is a row that two stores do not have alike.
type difference struct {
	key         epochKey
	sequence    uint64
	here, there bool // whether it is there at all
}

// rowKey is how the export of a store names a row.
func (d difference) rowKey() string {
	return fmt.Sprintf("%s %s %d", hex.EncodeToString([]byte(d.key.host)), hex.EncodeToString([]byte(d.key.epoch)), d.sequence)
}

// differences names the rows in which two stores differ, of batches that both have, and what differs in them.
func (c *call) differences(ctx context.Context, store, against string, doubts []doubt) ([]string, error) {
	here, err := c.batches(ctx, store, doubts)
	if err != nil {
		return nil, err
	}
	there, err := c.batches(ctx, against, doubts)
	if err != nil {
		return nil, err
	}
	var list []difference
	for i, d := range doubts {
		list = append(list, d.compare(here[i], there[i])...)
	}
	list = list[:min(len(list), maxRows)]
	ours, err := c.rows(ctx, store, list)
	if err != nil {
		return nil, err
	}
	theirs, err := c.rows(ctx, against, list)
	if err != nil {
		return nil, err
	}
	found := newProof("")
	for _, d := range list {
		switch {
		case !d.here:
			found.find(d.key, "record %d is missing here, %s has it", d.sequence, against)
		case !d.there:
			found.find(d.key, "record %d: %s does not have it", d.sequence, against)
		default:
			found.find(d.key, "record %d is not the same in %s%s", d.sequence, against, columnsText(ours[d.rowKey()], theirs[d.rowKey()]))
		}
	}
	return found.findings, nil
}

// batches asks a store for the leaves of some batches.
func (c *call) batches(ctx context.Context, store string, doubts []doubt) ([]*wire.BatchEvidence, error) {
	list := make([]*wire.BatchEvidence, len(doubts))
	if len(doubts) == 0 {
		return list, nil
	}
	err := c.keep(ctx, "verify", store, true, func(k *api.Keeper) error {
		for i, d := range doubts {
			r := &wire.EvidenceRequest{Store: store, HostId: []byte(d.key.host), Epoch: []byte(d.key.epoch), First: d.first}
			err := k.Evidence(ctx, r, func(p *wire.EvidencePage) error {
				for _, b := range p.GetBatches() {
					if b.GetFirst() == d.first && bytes.Equal(b.GetEpoch(), r.Epoch) {
						list[i] = b
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

// compare finds the rows of a batch that differ. A store that tells no leaves, as an older one, leaves it at what is missing.
func (d doubt) compare(here, there *wire.BatchEvidence) []difference {
	var list []difference
	for sequence := d.first; sequence <= d.last; sequence++ {
		one := difference{key: d.key, sequence: sequence,
			here: !slices.Contains(here.GetMissing(), sequence), there: !slices.Contains(there.GetMissing(), sequence)}
		if one.here && one.there && bytes.Equal(leaf(here, sequence-d.first), leaf(there, sequence-d.first)) || !one.here && !one.there {
			continue
		}
		list = append(list, one)
	}
	return list
}

// leaf is that of the n-th row, nil if it was not told.
func leaf(b *wire.BatchEvidence, n uint64) []byte {
	leaves := b.GetLeaves()
	if uint64(len(leaves)) < (n+1)*sha256.Size {
		return nil
	}
	return leaves[n*sha256.Size:][:sha256.Size]
}

// rows asks a store for rows that both have, by their key. What is no row of `connections`, such as a notice, is not there.
func (c *call) rows(ctx context.Context, store string, list []difference) (map[string]map[string]any, error) {
	rows := map[string]map[string]any{}
	where := whereRows(list)
	if where == nil {
		return rows, nil
	}
	var file bytes.Buffer
	err := c.keep(ctx, "verify", store, true, func(k *api.Keeper) error {
		return k.Export(ctx, &wire.ExportRequest{Store: store, Format: wire.ExportFormat_EXPORT_JSON, Where: where}, &file)
	})
	if err != nil {
		return nil, err
	}
	lines := json.NewDecoder(&file)
	lines.UseNumber()
	for {
		row := map[string]any{}
		if err := lines.Decode(&row); errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return nil, fmt.Errorf("verify: a row that %s exports: %w", store, err)
		}
		rows[fmt.Sprint(row["host_id"], " ", row["epoch"], " ", row["seq"])] = row
	}
}

// whereRows is the filter for rows that both stores have; nil if there are none.
func whereRows(list []difference) *wire.Filter {
	equal := func(column string, values ...[]byte) *wire.Filter {
		return &wire.Filter{Kind: &wire.Filter_Compare{Compare: &wire.Compare{Column: column, Values: values}}}
	}
	runs := map[epochKey][][]byte{}
	for _, d := range list {
		if d.here && d.there {
			runs[d.key] = append(runs[d.key], fmt.Append(nil, d.sequence))
		}
	}
	var each []*wire.Filter
	for key, sequences := range runs {
		each = append(each, &wire.Filter{Kind: &wire.Filter_All{All: &wire.Filters{Filters: []*wire.Filter{
			equal("host_id", fmt.Appendf(nil, "%x", key.host)), equal("epoch", fmt.Appendf(nil, "%x", key.epoch)), equal("seq", sequences...),
		}}}})
	}
	if each == nil {
		return nil
	}
	return &wire.Filter{Kind: &wire.Filter_Any{Any: &wire.Filters{Filters: each}}}
}

// columnsText says in which columns two rows differ, as far as there is room.
func columnsText(here, there map[string]any) string {
	if here == nil || there == nil {
		return ""
	}
	var words []string
	for _, column := range sdk.Columns() {
		a, b := here[column.Name], there[column.Name]
		if a != b && len(words) < maxColumns {
			words = append(words, fmt.Sprintf("%s is %s here and %s there", column.Name, valueText(a), valueText(b)))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, ", ")
}

// valueText is a value of a row: text in quotes, as far as there is room.
func valueText(v any) string {
	if text, ok := v.(string); ok {
		return fmt.Sprintf("%.*q", maxValue, text)
	}
	return fmt.Sprint(v)
}
