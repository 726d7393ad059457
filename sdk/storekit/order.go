package storekit

import (
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// BucketColumn is the name of the bucket in a statement that sums up.
const BucketColumn = "bucket_start"

// Key is a column of the statement that sums up by which groups are ordered.
type Key struct {
	Column     string // its name, see the package comment
	Position   int    // among the statement's columns
	Text       bool
	Descending bool
}

// Order gives the keys that make the order of a query's groups total: those that it names, then all dimensions, then the
// bucket. types are those of the dimensions.
func Order(q *wire.Query, types []sdk.Type) ([]Key, error) {
	var (
		all  []Key
		list []string
	)
	add := func(name, column string, text bool) {
		all, list = append(all, Key{Column: column, Position: len(all), Text: text}), append(list, name)
	}
	for i, name := range q.GetBy() {
		add(name, fmt.Sprintf("c%d", i), types[i] == sdk.Text)
	}
	if q.GetBucket() != 0 {
		add("bucket", BucketColumn, false)
	}
	groups := len(all)
	for i, name := range MeasureNames() {
		add(name, fmt.Sprintf("m%d", i), false)
	}
	positions := make(map[string]int)
	for i := len(list) - 1; i >= 0; i-- {
		positions[list[i]] = i // the first of equal names
	}
	var order []Key
	taken := make(map[int]bool)
	take := func(position int, descending bool) {
		if !taken[position] {
			k := all[position]
			k.Descending = descending
			order, taken[position] = append(order, k), true
		}
	}
	for _, o := range q.GetOrder() {
		position, ok := positions[o.GetColumn()]
		if !ok {
			return nil, fmt.Errorf("%w: cannot order by %q; this query can by %s", sdk.ErrQuery, sdk.EscapeString(o.GetColumn()),
				strings.Join(list, ", "))
		}
		take(position, o.GetDescending())
	}
	for _, name := range list[:groups] {
		take(positions[name], false)
	}
	return order, nil
}

// Comparable makes an expression, which is a key's column or a value for it, one that a database orders by the bytes of
// text.
type Comparable func(k Key, expression string) string

// Plain is the [Comparable] of a database that orders by bytes anyway.
func Plain(_ Key, expression string) string { return expression }

// OrderBy is the clause for an order, with a space before it, or nothing.
func OrderBy(keys []Key, comparable Comparable) string {
	list := make([]string, len(keys))
	for i, k := range keys {
		if list[i] = comparable(k, k.Column); k.Descending {
			list[i] += " DESC"
		}
	}
	if len(list) == 0 {
		return ""
	}
	return " ORDER BY " + strings.Join(list, ", ")
}

// Behind is the condition for groups behind the one whose keys have the values after: the first key is greater, or it is
// equal and the next is, and so on. bind binds a value and gives its placeholder, which may be used more than once.
func Behind(keys []Key, after []any, bind func(any) string, comparable Comparable) string {
	if len(keys) == 0 {
		return Never // there is one group
	}
	alternatives := make([]string, len(keys))
	equal := ""
	for i, k := range keys {
		value, operator := bind(after[i]), ">"
		if k.Descending {
			operator = "<"
		}
		alternatives[i] = fmt.Sprintf("(%s%s %s %s)", equal, comparable(k, k.Column), operator, comparable(k, value))
		equal += fmt.Sprintf("%s = %s AND ", k.Column, value)
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}
