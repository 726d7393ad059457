package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/servertest"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ask runs a query to its last page and gives each row as text: values, bucket if there is one, sent/received/rows.
func ask(t *testing.T, s *Store, q *wire.Query) (rows []string, last *wire.QueryPage) {
	t.Helper()
	err := s.Query(t.Context(), q, func(p *wire.QueryPage) error {
		for _, r := range p.GetRows() {
			rows = append(rows, rowText(r))
		}
		last = p
		return nil
	})
	if err != nil {
		t.Fatalf("query %v: %v", q, err)
	}
	return rows, last
}

func rowText(r *wire.QueryRow) string {
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

func wantRows(t *testing.T, s *Store, q *wire.Query, want ...string) {
	t.Helper()
	got, _ := ask(t, s, q)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v (-want +got):\n%s", q, diff)
	}
}

func compare(column string, operator wire.Compare_Operator, values ...string) *wire.Filter {
	c := &wire.Compare{Column: column, Operator: operator}
	for _, v := range values {
		c.Values = append(c.Values, []byte(v))
	}
	return &wire.Filter{Kind: &wire.Filter_Compare{Compare: c}}
}

func equal(column string, values ...string) *wire.Filter {
	return compare(column, wire.Compare_EQUAL, values...)
}

func all(filters ...*wire.Filter) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_All{All: &wire.Filters{Filters: filters}}}
}

func anyOf(filters ...*wire.Filter) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_Any{Any: &wire.Filters{Filters: filters}}}
}

func not(f *wire.Filter) *wire.Filter { return &wire.Filter{Kind: &wire.Filter_Not{Not: f}} }

// sample is a store with six flows in an hour, one a packet copy that no sum should have.
func sample(t *testing.T, server *servertest.Server) *Store {
	t.Helper()
	s := open(t, ours(t, server))
	curl, ssh := process("/usr/bin/curl", "curl\x00-H\x00say \"it's\"", 1), process("/usr/bin/ssh", "ssh", 2)
	ssh.Ruid = 0
	copied := flow(60, ssh, 1000, 1000, "10.1.2.3", "")
	copied.GetFlow().Layer = wire.Layer_LAYER_PACKET
	orphan := flow(1800, ssh, 4, 40, "fe80::1", "")
	orphan.GetFlow().Parent = nil
	apply(t, s, batch(1, 1,
		flow(0, curl, 1, 10, "93.184.216.34", "www.example.org"),
		flow(60, curl, 2, 20, "93.184.216.34", "www.example.org"),
		flow(600, curl, 3, 30, "2001:db8::7", "example.com"),
		orphan, copied,
		flow(3000, process("/opt/back\\slash\xff", "x", 3), 5, 50, "192.168.1.1", ""),
	))
	return s
}
