package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// cursor says where a page ended. It is the host's to keep and ours to read, and not trusted.
type cursor struct {
	Query  []byte // which query it continues
	Newest int64  // last row of flows that the first page saw; later ones would shift the sums
	After  []any  // values of the sort keys of the last row
}

// sortKey is a column of the grouped statement that rows are ordered by.
type sortKey struct {
	column     string
	position   int // among the statement's columns
	descending bool
}

// order gives the keys that make the order of rows total: those that the query names, then all dimensions, then the
// bucket.
func (ask *question) order() ([]sortKey, error) {
	positions := make(map[string]sortKey)
	var all []string
	add := func(name, column string) {
		if _, ok := positions[name]; !ok {
			positions[name] = sortKey{column: column, position: len(all)}
		}
		all = append(all, name)
	}
	for i, d := range ask.dims {
		add(d.Name, fmt.Sprintf("c%d", i))
	}
	if ask.query.GetBucket() > 0 {
		add("bucket", "bucket_start")
	}
	keys := len(all)
	for i, m := range measures() {
		add(m[0], fmt.Sprintf("m%d", i))
	}
	var sort []sortKey
	taken := make(map[string]bool)
	for _, o := range ask.query.GetOrder() {
		k, ok := positions[o.GetColumn()]
		if !ok {
			return nil, fmt.Errorf("%w: cannot order by %q; this query can by %s", sdk.ErrQuery, sdk.EscapeString(o.GetColumn()),
				strings.Join(all, ", "))
		}
		k.descending = o.GetDescending()
		if !taken[k.column] {
			sort, taken[k.column] = append(sort, k), true
		}
	}
	for _, name := range all[:keys] {
		if k := positions[name]; !taken[k.column] {
			sort, taken[k.column] = append(sort, k), true
		}
	}
	return sort, nil
}

func (ask *question) orderBy() string {
	var list []string
	for _, k := range ask.sort {
		direction := ""
		if k.descending {
			direction = " DESC"
		}
		list = append(list, k.column+direction)
	}
	if len(list) == 0 {
		return ""
	}
	return " ORDER BY " + strings.Join(list, ", ")
}

// after is the condition for rows behind the cursor: the first key is greater, or it is equal and the next is, ...
func (ask *question) after() string {
	if ask.cursor.After == nil {
		return ""
	}
	var alternatives []string
	equal := ""
	for i, k := range ask.sort {
		value, operator := ask.bind(ask.cursor.After[i]), ">"
		if k.descending {
			operator = "<"
		}
		alternatives = append(alternatives, fmt.Sprintf("(%s%s %s %s)", equal, k.column, operator, value))
		equal += fmt.Sprintf("%s = %s AND ", k.column, value)
	}
	return " WHERE " + strings.Join(alternatives, " OR ")
}

// seal makes the cursor behind a row.
func (ask *question) seal(row []any) ([]byte, error) {
	c := cursor{Query: fingerprint(ask.query), Newest: ask.cursor.Newest}
	for _, k := range ask.sort {
		c.After = append(c.After, row[k.position])
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("make cursor: %w", err)
	}
	return raw, nil
}

// openCursor reads the cursor of a query, a zero one if it has none.
func openCursor(q *wire.Query, keys int) (cursor, error) {
	if len(q.GetCursor()) == 0 {
		return cursor{}, nil
	}
	var c cursor
	decoder := json.NewDecoder(bytes.NewReader(q.GetCursor()))
	decoder.UseNumber()
	if err := decoder.Decode(&c); err != nil {
		return cursor{}, fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery)
	}
	if !bytes.Equal(c.Query, fingerprint(q)) || len(c.After) != keys || c.Newest <= 0 {
		return cursor{}, fmt.Errorf("%w: the cursor belongs to another query", sdk.ErrQuery)
	}
	for i, value := range c.After {
		number, ok := value.(json.Number)
		if !ok {
			continue
		}
		n, err := number.Int64()
		if err != nil {
			return cursor{}, fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery)
		}
		c.After[i] = n
	}
	return c, nil
}

// fingerprint tells queries apart whose cursors must not be mixed.
func fingerprint(q *wire.Query) []byte {
	bare := &wire.Query{What: q.GetWhat(), By: q.GetBy(), Where: q.GetWhere(), Start: q.GetStart(), End: q.GetEnd(),
		Bucket: q.GetBucket(), Zone: q.GetZone(), Order: q.GetOrder()}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		raw = nil // a name that is not UTF-8; no column has it
	}
	sum := sha256.Sum256(raw)
	return slices.Clone(sum[:8])
}
