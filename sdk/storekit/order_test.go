package storekit

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// query is one by an executable and a port, in buckets.
func query(order ...*wire.Order) *wire.Query {
	return &wire.Query{By: []string{"exe", "rport"}, Bucket: 60, Order: order}
}

func keysOf(t *testing.T, q *wire.Query) []Key {
	t.Helper()
	keys, err := Order(q, []sdk.Type{sdk.Text, sdk.Integer}[:len(q.GetBy())])
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestAnOrderIsTotal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query *wire.Query
		want  string
	}{
		{query(), " ORDER BY c0, c1, bucket_start"},
		{query(&wire.Order{Column: "received", Descending: true}), " ORDER BY m1 DESC, c0, c1, bucket_start"},
		{query(&wire.Order{Column: "rport"}, &wire.Order{Column: "rport", Descending: true}), " ORDER BY c1, c0, bucket_start"},
		{query(&wire.Order{Column: "bucket", Descending: true}), " ORDER BY bucket_start DESC, c0, c1"},
		{&wire.Query{}, ""},
		{&wire.Query{By: []string{"exe", "exe"}}, " ORDER BY c0"},
	} {
		if got := OrderBy(keysOf(t, test.query), Plain); got != test.want {
			t.Errorf("%v: got %q, want %q", test.query, got, test.want)
		}
	}
	if keys := keysOf(t, query(&wire.Order{Column: "rows"})); keys[0].Position != 10 || keys[1].Position != 0 || !keys[1].Text || keys[2].Text {
		t.Errorf("got %v, want the last measure behind two dimensions and a bucket, then a text", keys)
	}
	if _, err := Order(&wire.Query{Order: []*wire.Order{{Column: "exe"}}}, nil); !errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), "can by sent, received") {
		t.Errorf("got %v", err)
	}
}

func TestWhatLiesBehindAGroup(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, &wire.Query{By: []string{"exe"}, Order: []*wire.Order{{Column: "sent", Descending: true}}})
	var bound []any
	bind := func(v any) string {
		bound = append(bound, v)
		return fmt.Sprintf("?%d", len(bound))
	}
	upper := func(k Key, expression string) string {
		if k.Text {
			return "upper(" + expression + ")"
		}
		return expression
	}
	want := "((m0 < ?1) OR (m0 = ?1 AND upper(c0) > upper(?2)))"
	if got := Behind(keys, []any{int64(7), "/bin/a"}, bind, upper); got != want || !cmp.Equal(bound, []any{int64(7), "/bin/a"}) {
		t.Errorf("got %s of %v, want %s", got, bound, want)
	}
	if got := OrderBy(keys, upper); got != " ORDER BY m0 DESC, upper(c0)" {
		t.Errorf("got %s", got)
	}
	if got := Behind(nil, nil, bind, Plain); got != Never {
		t.Errorf("behind the only group: got %s", got)
	}
}

func TestACursorComesBackAsItWasMade(t *testing.T) {
	t.Parallel()
	q := query(&wire.Order{Column: "sent"})
	keys := keysOf(t, q)
	if c, err := OpenCursor(q, keys); c != nil || err != nil {
		t.Errorf("a query without one: %v, %v", c, err)
	}
	want := Cursor{After: []any{int64(1<<63 - 1), "/bin/\u00e4\"", int64(-1), int64(0)}, Bound: 1 << 60}
	var err error
	if q.Cursor, err = want.Seal(q); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenCursor(q, keys); err != nil || !cmp.Equal(*got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	q.Limit, q.Totals = 5, true // may differ from page to page
	if _, err := OpenCursor(q, keys); err != nil {
		t.Error(err)
	}
}

func TestACursorThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	q := &wire.Query{By: []string{"exe"}}
	keys := keysOf(t, q)
	seal := func(of *wire.Query, after ...any) string {
		raw, err := Cursor{After: after}.Seal(of)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for cursor, want := range map[string]string{
		"x": "none of this store", "{}": "another query", seal(&wire.Query{By: []string{"name"}}, "a"): "another query", seal(q): "another query",
		seal(q, "a", "b"): "another query", seal(q, 5): "none of this store", seal(q, nil): "none of this store", seal(q, true): "none of this store",
	} {
		q.Cursor = []byte(cursor)
		if _, err := OpenCursor(q, keys); !errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", cursor, err, want)
		}
	}
	numbers := []Key{{Column: "m0"}}
	for _, after := range []any{"text", 1.5, 1e300} {
		q.Cursor = []byte(seal(q, after))
		if _, err := OpenCursor(q, numbers); !errors.Is(err, sdk.ErrQuery) {
			t.Errorf("%v for a number: got %v", after, err)
		}
	}
}
