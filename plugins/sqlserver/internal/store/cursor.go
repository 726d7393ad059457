package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// cursor says where a page ended. It is the host's to keep and ours to read, and not trusted.
type cursor struct {
	Query []byte // which query it continues
	After []any  // values of the sort keys of the last row
}

// sortKey is a column of the grouped statement that rows are ordered by.
type sortKey struct {
	column     string
	position   int // among the statement's columns
	text       bool
	descending bool
}

// order gives the keys that make the order of rows total: those that the query names, then all dimensions, then the
// bucket.
func (ask *question) order() ([]sortKey, error) {
	positions := make(map[string]sortKey)
	var all []string
	add := func(name, column string, text bool) {
		if _, ok := positions[name]; !ok {
			positions[name] = sortKey{column: column, position: len(all), text: text}
		}
		all = append(all, name)
	}
	for i, d := range ask.dims {
		add(d.name, fmt.Sprintf("c%d", i), d.kind == sdk.Text)
	}
	if ask.query.GetBucket() != 0 {
		add("bucket", "b", false)
	}
	keys := len(all)
	for i, m := range measures() {
		add(m.name, fmt.Sprintf("m%d", i), false)
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

// comparable is an expression that orders text by its bytes: PostgreSQL would follow the language of the database.
func (ask *question) comparable(k sortKey, expression string) string {
	if k.text && ask.answerer.dialect == server.PostgreSQL {
		return "convert_to(" + expression + ", 'UTF8')"
	}
	return expression
}

func (ask *question) orderBy() string {
	var list []string
	for _, k := range ask.sort {
		direction := ""
		if k.descending {
			direction = " DESC"
		}
		list = append(list, ask.comparable(k, "g."+k.column)+direction)
	}
	if len(list) == 0 {
		return ""
	}
	return " ORDER BY " + strings.Join(list, ", ")
}

// behind is the condition for groups behind the cursor: the first key is greater, or it is equal and the next is, …
func (ask *question) behind() string {
	if ask.after == nil {
		return ""
	}
	var alternatives []string
	equal := ""
	for i, k := range ask.sort {
		value, operator := ask.bind(ask.after[i]), ">"
		if k.descending {
			operator = "<"
		}
		alternatives = append(alternatives, fmt.Sprintf("(%s%s %s %s)", equal, ask.comparable(k, "g."+k.column), operator,
			ask.comparable(k, value)))
		equal += fmt.Sprintf("g.%s = %s AND ", k.column, value)
	}
	if len(alternatives) == 0 {
		return "1 = 0"
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}

// sealCursor makes the cursor behind a row with these sort keys.
func sealCursor(q *wire.Query, keys []any) ([]byte, error) {
	raw, err := json.Marshal(cursor{Query: fingerprint(q), After: keys})
	if err != nil {
		return nil, fmt.Errorf("make cursor: %w", err)
	}
	return raw, nil
}

// openCursor reads the cursor of a query, nil if it has none.
func openCursor(q *wire.Query, sort []sortKey) ([]any, error) {
	if len(q.GetCursor()) == 0 {
		return nil, nil
	}
	var c cursor
	decoder := json.NewDecoder(bytes.NewReader(q.GetCursor()))
	decoder.UseNumber()
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery)
	}
	if !bytes.Equal(c.Query, fingerprint(q)) || len(c.After) != len(sort) {
		return nil, fmt.Errorf("%w: the cursor belongs to another query", sdk.ErrQuery)
	}
	for i, value := range c.After {
		if _, isText := value.(string); isText && sort[i].text {
			continue
		}
		number, isNumber := value.(json.Number)
		n, err := number.Int64()
		if !isNumber || err != nil || sort[i].text {
			return nil, fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery)
		}
		c.After[i] = n
	}
	return c.After, nil
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
