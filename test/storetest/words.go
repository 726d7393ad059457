package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Ask runs a query to its last page and gives each row by [RowText].
func Ask(t *testing.T, s sdk.Store, q *wire.Query) (rows []string, last *wire.QueryPage) {
	t.Helper()
	err := s.Query(t.Context(), q, func(p *wire.QueryPage) error {
		for _, r := range p.GetRows() {
			rows = append(rows, RowText(r))
		}
		last = p
		return nil
	})
	if err != nil {
		t.Fatalf("query %v: %v", q, err)
	}
	return rows, last
}

// RowText is a row as text: values, bucket if there is one, sent/received/rows.
func RowText(r *wire.QueryRow) string {
	var parts []string
	for _, v := range r.GetValues() {
		if text, ok := v.GetKind().(*wire.Value_Text); ok {
			parts = append(parts, string(text.Text))
		} else {
			parts = append(parts, fmt.Sprint(v.GetNumber()))
		}
	}
	if r.GetBucket() != 0 {
		parts = append(parts, time.Unix(0, r.GetBucket()).UTC().Format("01-02T15:04"))
	}
	m := r.GetMeasures()
	return strings.Join(append(parts, fmt.Sprintf("%d/%d/%d", m.GetSent(), m.GetReceived(), m.GetRows())), " ")
}

// WantRows compares the whole answer to a query.
func WantRows(t *testing.T, s sdk.Store, q *wire.Query, want ...string) {
	t.Helper()
	got, _ := Ask(t, s, q)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v (-want +got):\n%s", q, diff)
	}
}

// Compare is a comparison with any of the values.
func Compare(column string, operator wire.Compare_Operator, values ...string) *wire.Filter {
	c := &wire.Compare{Column: column, Operator: operator}
	for _, v := range values {
		c.Values = append(c.Values, []byte(v))
	}
	return &wire.Filter{Kind: &wire.Filter_Compare{Compare: c}}
}

// Equal holds for any of the values.
func Equal(column string, values ...string) *wire.Filter {
	return Compare(column, wire.Compare_EQUAL, values...)
}

// All holds where all filters do.
func All(filters ...*wire.Filter) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_All{All: &wire.Filters{Filters: filters}}}
}

// AnyOf holds where one of the filters does.
func AnyOf(filters ...*wire.Filter) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_Any{Any: &wire.Filters{Filters: filters}}}
}

// Not holds where f does not.
func Not(f *wire.Filter) *wire.Filter { return &wire.Filter{Kind: &wire.Filter_Not{Not: f}} }
