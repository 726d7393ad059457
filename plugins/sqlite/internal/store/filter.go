package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

func columnsByName() (map[string]column, error) {
	list, err := columns()
	if err != nil {
		return nil, err
	}
	byName := make(map[string]column, len(list)+1)
	for _, c := range append(list, remoteColumns()...) {
		if _, ok := byName[c.Name]; !ok { // the last ones have only the site to add
			byName[c.Name] = c
		}
	}
	return byName, nil
}

// statement is SQL text with the values that are bound to it. Text of a query never gets into the SQL.
type statement struct {
	columns map[string]column
	args    []any
	layers  bool // the query names the layer, so it sees all of them
}

// find gives the column of a name that a query used.
func (s *statement) find(name string) (column, error) {
	s.layers = s.layers || name == "layer"
	return storekit.Lookup(s.columns, name)
}

// bind adds a value and gives its placeholder.
func (s *statement) bind(value any) string {
	s.args = append(s.args, value)
	return "?" + strconv.Itoa(len(s.args))
}

// filter is the condition on f that a filter means.
func (s *statement) filter(f *wire.Filter) (string, error) { return storekit.Condition(f, s.compare) }

func (s *statement) compare(c *wire.Compare) (string, error) {
	column, err := s.find(c.GetColumn())
	if err != nil {
		return "", err
	}
	var tests []func(string) string
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
	return column.matching(func(value string) string {
		alternatives := make([]string, len(tests))
		for i, test := range tests {
			alternatives[i] = test(value)
		}
		return "(" + strings.Join(alternatives, " OR ") + ")"
	}), nil
}

// test binds a value and gives the condition on an expression that compares with it. A text column is compared with the
// escaped value, since it is stored so; bytes, not letters, are compared.
func (s *statement) test(c column, operator wire.Compare_Operator, raw []byte) (func(string) string, error) {
	if operator == wire.Compare_SUBNET {
		return s.subnet(c, raw)
	}
	if c.Type == sdk.Integer {
		n, err := storekit.Number(c.Name, operator, raw)
		if err != nil {
			return nil, err
		}
		value := s.bind(n)
		return func(x string) string { return x + " = " + value }, nil
	}
	value := s.bind(sdk.Escape(raw))
	switch operator {
	case wire.Compare_EQUAL:
		return func(x string) string { return x + " = " + value }, nil
	case wire.Compare_PREFIX:
		return func(x string) string { return fmt.Sprintf("substr(%s, 1, length(%s)) = %s", x, value, value) }, nil
	case wire.Compare_SUBSTRING:
		return func(x string) string { return fmt.Sprintf("instr(%s, %s) > 0", x, value) }, nil
	}
	return nil, fmt.Errorf("%w: operator %v is not known", sdk.ErrQuery, operator)
}

// subnet tests addresses by their bytes.
func (s *statement) subnet(c column, raw []byte) (func(string) string, error) {
	if !strings.Contains(c.from, addressTable) {
		return nil, fmt.Errorf("%w: column %s holds no addresses; laddr and raddr do", sdk.ErrQuery, c.Name)
	}
	first, last, err := storekit.Subnet(raw)
	if err != nil {
		return nil, err
	}
	from, to := s.bind(first), s.bind(last)
	return func(string) string {
		return fmt.Sprintf("(length(a.ip) = %d AND a.ip BETWEEN %s AND %s)", len(first), from, to)
	}, nil
}
