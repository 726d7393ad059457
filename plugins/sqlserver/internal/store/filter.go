package store

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

func columnsByName() map[string]column {
	byName := make(map[string]column)
	for _, c := range append(ofKind(sdk.KindFlow), column{siteColumn, sdk.Text, 0}) {
		byName[c.name] = c
	}
	return byName
}

// statement is SQL text with the values that are bound to it. Text of a query never gets into the SQL.
type statement struct {
	dialect  server.Dialect
	columns  map[string]column
	resolved string // table of hashes that came later, quoted
	args     []any
	layers   bool // the query names the layer, so it sees all of them
}

// find gives the column of a name that a query used.
func (s *statement) find(name string) (column, error) {
	s.layers = s.layers || name == "layer"
	return storekit.Lookup(s.columns, name)
}

// value is the expression for a column of f.
func (s *statement) value(name string) string { return "(" + completed(name, "f", s.resolved) + ")" }

// bind adds a value and gives its placeholder.
func (s *statement) bind(value any) string {
	s.args = append(s.args, value)
	return "$" + strconv.Itoa(len(s.args))
}

// bigint is what to cast to for a number of 64 bits.
func (s *statement) bigint() string {
	if s.dialect == server.MySQL {
		return "SIGNED"
	}
	return "bigint"
}

// filter is the condition on f that a filter means.
func (s *statement) filter(f *wire.Filter) (string, error) { return storekit.Condition(f, s.compare) }

func (s *statement) compare(c *wire.Compare) (string, error) {
	column, err := s.find(c.GetColumn())
	if err != nil {
		return "", err
	}
	var tests []string
	for _, value := range c.GetValues() {
		test, err := s.test(column, c.GetOperator(), value)
		if err != nil {
			return "", err
		}
		tests = append(tests, test)
	}
	if len(tests) == 0 {
		return storekit.Never, nil // none of no values
	}
	return "(" + strings.Join(tests, " OR ") + ")", nil
}

// test is the condition that a column compares so with a value. A text column is compared with the escaped value, since
// it is stored so; bytes, not letters, are compared.
func (s *statement) test(c column, operator wire.Compare_Operator, raw []byte) (string, error) {
	if operator == wire.Compare_SUBNET {
		return s.subnet(c, raw)
	}
	x := s.value(c.name)
	if c.kind == sdk.Integer {
		n, err := storekit.Number(c.name, operator, raw)
		return x + " = " + s.bind(n), err
	}
	text := sdk.Escape(raw)
	switch operator {
	case wire.Compare_EQUAL:
		return x + " = " + s.bind(text), nil
	case wire.Compare_PREFIX:
		return fmt.Sprintf("left(%s, %d) = %s", x, len([]rune(text)), s.bind(text)), nil
	case wire.Compare_SUBSTRING:
		return fmt.Sprintf("position(%s IN %s) > 0", s.bind(text), x), nil
	}
	return "", fmt.Errorf("%w: operator %v is not known", sdk.ErrQuery, operator)
}

// subnet tests addresses by their digits.
func (s *statement) subnet(c column, raw []byte) (string, error) {
	index, ok := map[string]string{"laddr": localIndex, "raddr": remoteIndex}[c.name]
	if !ok {
		return "", fmt.Errorf("%w: column %s holds no addresses; laddr and raddr do", sdk.ErrQuery, c.name)
	}
	first, last, err := storekit.Subnet(raw)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`(char_length(f."%s") = %d AND f."%s" BETWEEN %s AND %s)`, index, 2*len(first), index,
		s.bind(hex.EncodeToString(first)), s.bind(hex.EncodeToString(last))), nil
}
