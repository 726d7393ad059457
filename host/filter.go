package main

import (
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// operator is a sign of the filter language and what it means.
type operator struct {
	sign    string
	compare wire.Compare_Operator
}

// operators are tried in this order, so that none is taken for the beginning of another.
func operators() []operator {
	return []operator{
		{"^=", wire.Compare_PREFIX}, {"*=", wire.Compare_SUBSTRING}, {"<<", wire.Compare_SUBNET}, {"=", wire.Compare_EQUAL},
	}
}

// parseFilter reads COLUMN OPERATOR VALUE without spaces between. The value is everything after the operator, byte for byte.
func parseFilter(text string) (*wire.Filter, error) {
	column, rest := splitColumn(text)
	rest, negated := strings.CutPrefix(rest, "!")
	for _, o := range operators() {
		value, ok := strings.CutPrefix(rest, o.sign)
		if !ok || column == "" {
			continue
		}
		f := &wire.Filter{Kind: &wire.Filter_Compare{Compare: &wire.Compare{
			Column: column, Operator: o.compare, Values: [][]byte{[]byte(value)},
		}}}
		if negated {
			f = &wire.Filter{Kind: &wire.Filter_Not{Not: f}}
		}
		return f, nil
	}
	return nil, fmt.Errorf(`"%.80s" is no filter such as name=curl, exe^=/usr/, cmdline*=token, raddr<<10.0.0.0/8, or with ! before the operator`,
		sdk.EscapeString(text))
}

// splitColumn takes the column's name off the front.
func splitColumn(text string) (column, rest string) {
	i := strings.IndexFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i:]
}

// parseFilters reads what all must hold, and of what at least one must. Nothing at all is nil: everything matches.
func parseFilters(where, anyOf []string) (*wire.Filter, error) {
	all, err := parseEach("--where", where)
	if err != nil {
		return nil, err
	}
	alternatives, err := parseEach("--any", anyOf)
	if err != nil {
		return nil, err
	}
	if len(alternatives) > 0 {
		all = append(all, &wire.Filter{Kind: &wire.Filter_Any{Any: &wire.Filters{Filters: alternatives}}})
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return &wire.Filter{Kind: &wire.Filter_All{All: &wire.Filters{Filters: all}}}, nil
}

func parseEach(flag string, texts []string) ([]*wire.Filter, error) {
	var filters []*wire.Filter
	for _, text := range texts {
		f, err := parseFilter(text)
		if err != nil {
			return nil, fmt.Errorf("%s %w", flag, err)
		}
		filters = append(filters, f)
	}
	return filters, nil
}

// parseOrder reads "-sent,exe".
func parseOrder(text string) ([]*wire.Order, error) {
	if text == "" {
		return nil, nil
	}
	var orders []*wire.Order
	for _, part := range strings.Split(text, ",") {
		column, descending := strings.CutPrefix(part, "-")
		if name, rest := splitColumn(column); name == "" || rest != "" {
			return nil, fmt.Errorf("--order %.80q: want columns separated by commas, - before one for the largest first", text)
		}
		orders = append(orders, &wire.Order{Column: column, Descending: descending})
	}
	return orders, nil
}
