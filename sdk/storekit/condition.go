package storekit

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Bounds of a filter; databases have their own, which would answer less clearly.
const (
	maxFilterDepth = 32
	maxFilterTerms = 1000
)

// Conditions that hold always and never, in every database.
const (
	Always = "1 = 1"
	Never  = "1 = 0"
)

// Condition is the SQL of what a filter means, made of what compare gives for its comparisons; a nil filter is [Always].
// A filter of more than 1000 parts and values, or deeper than 32, is an error, and so is one of compare.
func Condition(f *wire.Filter, compare func(*wire.Compare) (string, error)) (string, error) {
	return (&condition{compare: compare}).of(f, 0)
}

type condition struct {
	compare func(*wire.Compare) (string, error)
	terms   int
}

func (c *condition) of(f *wire.Filter, depth int) (string, error) {
	if c.terms++; c.terms > maxFilterTerms || depth > maxFilterDepth {
		return "", fmt.Errorf("%w: the filter has more than %d parts or is deeper than %d", sdk.ErrQuery, maxFilterTerms,
			maxFilterDepth)
	}
	switch k := f.GetKind().(type) {
	case nil:
		return Always, nil
	case *wire.Filter_Compare:
		if c.terms += len(k.Compare.GetValues()); c.terms > maxFilterTerms {
			return "", fmt.Errorf("%w: the filter has more than %d values", sdk.ErrQuery, maxFilterTerms)
		}
		return c.compare(k.Compare)
	case *wire.Filter_All:
		return c.join(k.All.GetFilters(), " AND ", Always, depth)
	case *wire.Filter_Any:
		return c.join(k.Any.GetFilters(), " OR ", Never, depth)
	case *wire.Filter_Not:
		inner, err := c.of(k.Not, depth+1)
		return "NOT (" + inner + ")", err
	}
	return "", fmt.Errorf("%w: filter of a kind that this version does not know", sdk.ErrQuery)
}

func (c *condition) join(filters []*wire.Filter, word, none string, depth int) (string, error) {
	if len(filters) == 0 {
		return none, nil
	}
	parts := make([]string, len(filters))
	for i, f := range filters {
		part, err := c.of(f, depth+1)
		if err != nil {
			return "", err
		}
		parts[i] = part
	}
	return "(" + strings.Join(parts, word) + ")", nil
}

// Number reads a value that a column of numbers is compared with: it can be equal to one, nothing else.
func Number(column string, operator wire.Compare_Operator, value []byte) (int64, error) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	switch {
	case operator != wire.Compare_EQUAL:
		return 0, fmt.Errorf("%w: column %s holds numbers: it can be equal to one, nothing else", sdk.ErrQuery, column)
	case err != nil:
		return 0, fmt.Errorf("%w: column %s holds numbers, and \"%s\" is none", sdk.ErrQuery, column, sdk.Escape(value))
	}
	return n, nil
}
