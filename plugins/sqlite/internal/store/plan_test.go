package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

func TestOthersAreWhatTheLimitLeavesOut(t *testing.T) {
	t.Parallel()
	s := sample(t)
	q := &wire.Query{By: []string{"exe"}, Limit: 1, Others: true, Totals: true, Order: []*wire.Order{{Column: "sent", Descending: true}}}
	rows, page := ask(t, s, q)
	if diff := cmp.Diff([]string{"/usr/bin/curl 6/60/3"}, rows); diff != "" {
		t.Error(diff)
	}
	if o := page.GetOthers(); o.GetSent() != 9 || o.GetRows() != 2 || page.GetOthersGroups() != 2 || page.GetTotals().GetSent() != 15 {
		t.Errorf("got %v", page)
	}
	q.Cursor = page.GetCursor()
	if _, page = ask(t, s, q); page.GetOthers().GetSent() != 4 || page.GetOthersGroups() != 1 || page.GetTotals().GetSent() != 15 {
		t.Errorf("the next page: got %v", page)
	}
	q = &wire.Query{By: []string{"exe"}, Others: true, Bucket: hour}
	if err := s.Query(t.Context(), q, func(*wire.QueryPage) error { return nil }); !errors.Is(err, sdk.ErrQuery) {
		t.Errorf("with a bucket: got %v", err)
	}
}

func TestASiteIsADimension(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for i, name := range []string{"www.example.org", "cdn.example.org", "example.com"} {
		apply(t, s, batch(1, uint64(i)+1, flow(0, process("/bin/a", "a", 1), 1, 10, "1.1.1.1", name)))
	}
	wantRows(t, s, &wire.Query{By: []string{"site"}}, "com.example 1/10/1", "org.example 2/20/2")
	wantRows(t, s, &wire.Query{By: []string{"domain"}, Where: equal("site", "org.example")}, "org.example.cdn 1/10/1", "org.example.www 1/10/1")
}

func TestAScanTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	for range 5 {
		apply(t, s, g.Batch(1000))
	}
	_, page := ask(t, s, &wire.Query{By: []string{"cmdline"}})
	if page.GetScan() != 5000 || page.GetScanned() != 5000 {
		t.Errorf("at the end: %d of %d rows, want 5000 of 5000", page.GetScanned(), page.GetScan())
	}
	// A reader that takes its time, so that there is something to report.
	p := &progress{scan: 100}
	p.scanned.Store(42)
	reports := make(chan *wire.QueryPage, 1)
	out := storekit.NewPager(func(q *wire.QueryPage) error {
		select {
		case reports <- q:
		default:
		}
		return nil
	}, "exe")
	_, stop := report(t.Context(), out, p)
	select {
	case q := <-reports:
		if q.GetScanned() != 42 || q.GetScan() != 100 || !slices.Equal(q.GetColumns(), []string{"exe"}) {
			t.Errorf("got %v", q)
		}
	case <-time.After(30 * time.Second):
		t.Error("no report")
	}
	if err := stop(); err != nil || out.Page.Columns != nil {
		t.Errorf("got %v, %v", err, out.Page)
	}
}

func TestAReaderThatIsGoneEndsAScan(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	out := storekit.NewPager(func(*wire.QueryPage) error { return gone })
	ctx, stop := report(t.Context(), out, &progress{scan: 1})
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Error("the scan goes on")
	}
	if err := stop(); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

func TestQueriesUseTheCoarsestRollUpsThatAreExact(t *testing.T) {
	t.Parallel()
	at := func(text string) int64 {
		when, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return when.UnixNano()
	}
	f := facts{floor: at("2026-11-05 10:30:00"), minutes: at("2026-11-20 00:00:00"), settled: at("2026-11-20 18:00:00"), oldest: at("2026-10-01 00:00:00"),
		newest: at("2026-11-22 00:00:00"), hosts: 1}
	from, to := at("2026-11-03 00:00:00"), at("2026-11-21 12:34:56")
	for _, c := range []struct {
		name string
		q    *wire.Query
		want string
	}{
		{"from the floor on, the wide ones in the middle, hours of what is not settled", &wire.Query{By: []string{"exe"}, Start: from, End: to},
			"rows 11-03T00:00 11-05T10:30, rows 11-05T10:30 11-05T11:00, 3600 11-05T11:00 11-05T12:00, 21600 11-05T12:00 11-06T00:00, 86400 11-06T00:00 11-07T00:00, 345600 11-07T00:00 11-11T00:00, 691200 11-11T00:00 11-19T00:00, 86400 11-19T00:00 11-20T00:00, 21600 11-20T00:00 11-20T18:00, 3600 11-20T18:00 11-21T12:00, 60 11-21T12:00 11-21T12:34, rows 11-21T12:34 11-21T12:34"},
		{"a series by hour", &wire.Query{By: []string{"exe"}, Start: at("2026-11-20 00:00:00"), End: to, Bucket: hour},
			"3600 11-20T00:00 11-21T12:00, 60 11-21T12:00 11-21T12:34, rows 11-21T12:34 11-21T12:34"},
		{"a series by local day", &wire.Query{By: []string{"exe"}, Start: at("2026-11-20 00:00:00"), End: at("2026-11-22 00:00:00"), Bucket: day, Zone: "Europe/Berlin"},
			"3600 11-20T00:00 11-22T00:00"},
		{"where hours are half a one off", &wire.Query{By: []string{"exe"}, Start: at("2026-11-20 00:00:00"), End: at("2026-11-22 00:00:00"), Bucket: day, Zone: "Asia/Kolkata"},
			"60 11-20T00:00 11-22T00:00"},
		{"by remote", &wire.Query{By: []string{"raddr"}, Start: at("2026-11-06 00:00:00"), End: at("2026-11-21 00:00:00")},
			"86400 11-06T00:00 11-07T00:00, 345600 11-07T00:00 11-11T00:00, 691200 11-11T00:00 11-19T00:00, 86400 11-19T00:00 11-20T00:00, 21600 11-20T00:00 11-20T18:00, 3600 11-20T18:00 11-21T00:00"},
		{"both", &wire.Query{By: []string{"raddr", "exe"}, Start: at("2026-11-20 00:00:00"), End: at("2026-11-21 06:00:00")},
			"86400 11-20T00:00 11-21T00:00, rows 11-21T00:00 11-21T06:00"},
		{"what roll-ups do not carry", &wire.Query{By: []string{"cmdline"}, Start: at("2026-11-20 00:00:00"), End: to}, "rows 11-20T00:00 11-21T12:34"},
		{"a filter that they do not carry", &wire.Query{By: []string{"exe"}, Where: not(equal("lport", "1")), Start: at("2026-11-20 00:00:00"), End: to},
			"rows 11-20T00:00 11-21T12:34"},
		{"odd buckets", &wire.Query{Bucket: 61 * second, Start: at("2026-11-20 00:00:00"), End: to}, "rows 11-20T00:00 11-21T12:34"},
		{"nothing", &wire.Query{Start: to, End: to}, ""},
	} {
		p, _, err := choose(c.q, f)
		if err != nil {
			t.Fatal(err)
		}
		var spans []string
		for _, s := range p.spans {
			from := "rows"
			if s.width > 0 {
				from = fmt.Sprint(s.width)
			}
			spans = append(spans, fmt.Sprintf("%s %s %s", from, time.Unix(0, s.from).UTC().Format("01-02T15:04"), time.Unix(0, s.to).UTC().Format("01-02T15:04")))
		}
		if diff := cmp.Diff(c.want, strings.Join(spans, ", ")); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}
