package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

// flatColumns are what a flat row is made of, and where the plain numbers stand in it.
const flatColumns = `f.id, f.sequence, f.kind, f.batch, f.window, f.actor, f.remote, f.trait, f.lport, f.socket, f.sent,
f.received, f.sends, f.receives, f.connects, f.accepts, f.failures, f.listens, coalesce(z.folded_peers, 0),
coalesce(z.candidates, ''), coalesce(z.truncated, '')`

// flatFrom goes with flatColumns; a condition on f follows.
const flatFrom = " FROM flows f LEFT JOIN flow_rare z ON z.flow = f.id WHERE "

// cachedRows bounds what a flattener remembers of each table.
const cachedRows = 20_000

// flattener makes the rows of `connections` of flows, some hundred times as fast as the view: what flows share is looked
// up once. It is for one transaction and not safe for concurrent use.
type flattener struct {
	tx     *sql.Tx
	groups []flatGroup
	plain  map[int]int // position in the row: position in the flow
	width  int
	flow   []any
	dest   []any
}

// flatGroup is the columns that one number of a flow determines.
type flatGroup struct {
	source    int // position of the number in the flow
	positions []int
	lookup    *sql.Stmt
	known     map[int64][]sdk.Value
}

// newFlattener prepares. original asks for rows as they were delivered, without the hashes that came later.
func newFlattener(ctx context.Context, tx *sql.Tx, original bool) (*flattener, error) {
	all, err := columns()
	if err != nil {
		return nil, err
	}
	const plain = 21
	f := &flattener{tx: tx, plain: make(map[int]int), width: len(all), flow: make([]any, plain), dest: make([]any, plain)}
	for i := range f.flow {
		f.dest[i] = &f.flow[i]
	}
	at := map[string]int{"sequence": 1, "batch": 3, "window": 4, "actor": 5, "remote": 6, "trait": 7, "lport": 8, "socket": 9,
		"sent": 10, "received": 11, "sends": 12, "receives": 13, "connects": 14, "accepts": 15, "failures": 16, "listens": 17}
	rare := map[string]int{"folded_peers": 18, "candidates": 19, "truncated": 20}
	expressions := make(map[string][]string)
	positions := make(map[string][]int)
	for i, c := range all {
		switch {
		case c.base == "id":
			f.plain[i] = rare[c.Name]
		case c.from == "":
			f.plain[i] = at[c.base]
		default:
			if original {
				c.value = asDelivered(c.value)
			}
			expressions[c.base] = append(expressions[c.base], c.expression())
			positions[c.base] = append(positions[c.base], i)
		}
	}
	for base, list := range expressions {
		lookup, err := tx.PrepareContext(ctx, fmt.Sprintf("SELECT %s FROM (SELECT ?1 AS %s) f", strings.Join(list, ", "), base))
		if err != nil {
			return nil, fmt.Errorf("flatten: %w", err)
		}
		f.groups = append(f.groups, flatGroup{at[base], positions[base], lookup, make(map[int64][]sdk.Value)})
	}
	return f, nil
}

// asDelivered is the expression for a value as the record had it.
func asDelivered(value string) string {
	switch value {
	case "x.sha256":
		return "CASE x.late WHEN 1 THEN '' ELSE x.sha256 END"
	case "x.hash_status":
		return "CASE x.late WHEN 1 THEN 'pending' ELSE x.hash_status END"
	}
	return value
}

func (f *flattener) close() {
	for _, g := range f.groups {
		_ = g.lookup.Close()
	}
}

// flatRow is a flow as `connections` shows it. The values are valid until the next one.
type flatRow struct {
	id, sequence, kind int64
	values             []sdk.Value
}

// each calls take with every flow that a condition on f holds for, in the order of their ids.
func (f *flattener) each(ctx context.Context, condition string, args []any, take func(flatRow) error) error {
	rows, err := f.tx.QueryContext(ctx, "SELECT "+flatColumns+flatFrom+condition+" ORDER BY f.id", args...)
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close()
	values := make([]sdk.Value, f.width)
	for rows.Next() {
		if err := rows.Scan(f.dest...); err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		if err := f.fill(ctx, values); err != nil {
			return err
		}
		if err := take(flatRow{number(f.flow[0]), number(f.flow[1]), number(f.flow[2]), values}); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	return nil
}

func (f *flattener) fill(ctx context.Context, values []sdk.Value) error {
	for to, from := range f.plain {
		values[to] = toValue(f.flow[from])
	}
	for i := range f.groups {
		g := &f.groups[i]
		known, err := g.of(ctx, number(f.flow[g.source]))
		if err != nil {
			return err
		}
		for j, to := range g.positions {
			values[to] = known[j]
		}
	}
	return nil
}

// of looks up the columns that a number determines.
func (g *flatGroup) of(ctx context.Context, id int64) ([]sdk.Value, error) {
	if known, ok := g.known[id]; ok {
		return known, nil
	}
	raw, dest := make([]any, len(g.positions)), make([]any, len(g.positions))
	for i := range raw {
		dest[i] = &raw[i]
	}
	if err := g.lookup.QueryRowContext(ctx, id).Scan(dest...); err != nil {
		return nil, fmt.Errorf("look up what a row refers to: %w", err)
	}
	values := make([]sdk.Value, len(raw))
	for i, v := range raw {
		values[i] = toValue(v)
	}
	if len(g.known) >= cachedRows {
		clear(g.known)
	}
	g.known[id] = values
	return values, nil
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

func toValue(v any) sdk.Value {
	switch v := v.(type) {
	case int64:
		return sdk.IntegerValue(v)
	case string:
		return sdk.TextValue(v)
	}
	return sdk.TextValue("") // what a row referred to is gone
}
