package store

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Bounds of a filter; SQLite has its own, which would answer less clearly.
const (
	maxFilterDepth = 32
	maxFilterTerms = 1000
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
	terms   int
	layers  bool // the query names the layer, so it sees all of them
}

// find gives the column of a name that a query used.
func (s *statement) find(name string) (column, error) {
	c, ok := s.columns[name]
	if !ok {
		return column{}, fmt.Errorf("%w: there is no column %q; columns are %s", sdk.ErrQuery, sdk.EscapeString(name),
			strings.Join(slices.Sorted(maps.Keys(s.columns)), ", "))
	}
	if name == "layer" {
		s.layers = true
	}
	return c, nil
}

// bind adds a value and gives its placeholder.
func (s *statement) bind(value any) string {
	s.args = append(s.args, value)
	return "?" + strconv.Itoa(len(s.args))
}

// filter is the condition on f that a filter means.
func (s *statement) filter(f *wire.Filter, depth int) (string, error) {
	if s.terms++; s.terms > maxFilterTerms || depth > maxFilterDepth {
		return "", fmt.Errorf("%w: the filter has more than %d parts or is deeper than %d", sdk.ErrQuery, maxFilterTerms,
			maxFilterDepth)
	}
	switch k := f.GetKind().(type) {
	case nil:
		return "1", nil
	case *wire.Filter_Compare:
		return s.compare(k.Compare)
	case *wire.Filter_All:
		return s.join(k.All.GetFilters(), " AND ", "1", depth)
	case *wire.Filter_Any:
		return s.join(k.Any.GetFilters(), " OR ", "0", depth)
	case *wire.Filter_Not:
		inner, err := s.filter(k.Not, depth+1)
		return "NOT (" + inner + ")", err
	}
	return "", fmt.Errorf("%w: filter of a kind that this version does not know", sdk.ErrQuery)
}

func (s *statement) join(filters []*wire.Filter, word, none string, depth int) (string, error) {
	if len(filters) == 0 {
		return none, nil
	}
	parts := make([]string, len(filters))
	for i, f := range filters {
		part, err := s.filter(f, depth+1)
		if err != nil {
			return "", err
		}
		parts[i] = part
	}
	return "(" + strings.Join(parts, word) + ")", nil
}

func (s *statement) compare(c *wire.Compare) (string, error) {
	column, err := s.find(c.GetColumn())
	if err != nil {
		return "", err
	}
	if s.terms += len(c.GetValues()); s.terms > maxFilterTerms {
		return "", fmt.Errorf("%w: the filter has more than %d values", sdk.ErrQuery, maxFilterTerms)
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
		return "0", nil // none of no values
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
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || operator != wire.Compare_EQUAL {
			return nil, fmt.Errorf("%w: column %s holds numbers: it can be equal to a decimal number, not %v %q", sdk.ErrQuery,
				c.Name, operator, sdk.Escape(raw))
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

// subnet tests addresses by their bytes: those of a prefix lie between its first and its last.
func (s *statement) subnet(c column, raw []byte) (func(string) string, error) {
	if !strings.Contains(c.from, addressTable) {
		return nil, fmt.Errorf("%w: column %s holds no addresses; laddr and raddr do", sdk.ErrQuery, c.Name)
	}
	prefix, err := parsePrefix(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not a subnet such as 192.168.0.0/16 or fe80::/10", sdk.ErrQuery, sdk.Escape(raw))
	}
	first := prefix.Masked().Addr().AsSlice()
	last := slices.Clone(first)
	for bit := prefix.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	from, to := s.bind(first), s.bind(last)
	return func(string) string {
		return fmt.Sprintf("(length(a.ip) = %d AND a.ip BETWEEN %s AND %s)", len(first), from, to)
	}, nil
}

// parsePrefix reads a subnet; an address alone is one of its own. Mapped addresses are stored as IPv4.
func parsePrefix(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		address = address.Unmap().WithZone("")
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
