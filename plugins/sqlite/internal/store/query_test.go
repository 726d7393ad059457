package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/storetest"
)

// sample is a store with the sample.
func sample(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	apply(t, s, storetest.Sample())
	return s
}

func TestQueriesGroupFilterAndOrder(t *testing.T) {
	t.Parallel()
	s := sample(t)
	for _, q := range storetest.Questions() {
		t.Run(q.Name, func(t *testing.T) {
			t.Parallel()
			wantRows(t, s, q.Query, q.Want...)
		})
	}
}

func TestEveryColumnIsADimensionAndAFilterThatFindsItsOwnRows(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	apply(t, s, hostileBatch(), oddBatch())
	for _, c := range sdk.Columns() {
		var pages []*wire.QueryRow
		err := s.Query(t.Context(), &wire.Query{By: []string{c.Name}}, func(p *wire.QueryPage) error {
			pages = append(pages, p.GetRows()...)
			return nil
		})
		if err != nil || len(pages) == 0 {
			t.Fatalf("by %s: %v, %d rows", c.Name, err, len(pages))
		}
		for _, row := range pages {
			v := string(row.GetValues()[0].GetText())
			if c.Type == sdk.Integer {
				v = fmt.Sprint(row.GetValues()[0].GetNumber())
			}
			got, _ := ask(t, s, &wire.Query{By: []string{c.Name}, Where: equal(c.Name, v)})
			if diff := cmp.Diff([]string{rowText(row)}, got); diff != "" {
				t.Errorf("%s = %q:\n%s", c.Name, v, diff)
			}
		}
	}
}

func TestPagesGoOnWhereTheLastOneEnded(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(5)
	apply(t, s, g.Batch(600))
	for _, order := range [][]*wire.Order{nil, {{Column: "sends", Descending: true}, {Column: "raddr"}}, {{Column: "received"}}} {
		q := &wire.Query{By: []string{"raddr", "cmdline"}, Order: order, Limit: 10000, Bucket: int64(time.Hour)}
		want, _ := ask(t, s, q)
		var got []string
		q = proto.CloneOf(q)
		q.Limit = 7
		for {
			rows, last := ask(t, s, q)
			got = append(got, rows...)
			if q.Cursor = last.GetCursor(); len(q.Cursor) == 0 {
				break
			}
			if len(got) == 7 {
				apply(t, s, g.Batch(50)) // must not shift what is being read
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order %v: %s", order, diff)
		}
	}
}

func TestTotalsCountWhatTheLimitCutOff(t *testing.T) {
	t.Parallel()
	s := sample(t)
	_, page := ask(t, s, &wire.Query{By: []string{"exe"}, Limit: 1, Totals: true, Where: not(equal("uid", "0"))})
	if got := page.GetTotals(); got.GetSent() != 11 || got.GetRows() != 4 || len(page.GetCursor()) == 0 {
		t.Errorf("got %v", page)
	}
	if diff := cmp.Diff([]string{"exe"}, page.GetColumns()); diff != "" {
		t.Error(diff)
	}
}

func TestWrongQueriesAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	s := sample(t)
	_, page := ask(t, s, &wire.Query{By: []string{"exe"}, Limit: 1})
	deep := equal("uid", "0")
	for range 40 {
		deep = not(deep)
	}
	for _, c := range []struct {
		q    *wire.Query
		want string
	}{
		{&wire.Query{By: []string{"exe; DROP TABLE flows"}}, "columns are accepts, attribution"},
		{&wire.Query{Where: equal("rowid", "1")}, "columns are"},
		{&wire.Query{Where: equal("uid", "root")}, "numbers"},
		{&wire.Query{Where: compare("uid", wire.Compare_PREFIX, "1")}, "numbers"},
		{&wire.Query{Where: compare("exe", wire.Compare_SUBNET, "10.0.0.0/8")}, "laddr and raddr"},
		{&wire.Query{Where: compare("raddr", wire.Compare_SUBNET, "10.0.0.0/99")}, "not a subnet"},
		{&wire.Query{Where: compare("exe", 99, "x")}, "operator"},
		{&wire.Query{Where: deep}, "deeper"},
		{&wire.Query{Order: []*wire.Order{{Column: "exe"}}}, "cannot order by"},
		{&wire.Query{Zone: "Mars/Olympus"}, "zone"},
		{&wire.Query{Zone: "Local"}, "zone"},
		{&wire.Query{Bucket: -1}, "bucket"},
		{&wire.Query{Cursor: []byte("x")}, "cursor"},
		{&wire.Query{By: []string{"name"}, Cursor: page.GetCursor()}, "another query"},
		{&wire.Query{What: 99}, "not known"},
		{&wire.Query{What: wire.Query_GAPS, By: []string{"exe"}}, "gaps and notices"},
	} {
		err := s.Query(t.Context(), c.q, func(*wire.QueryPage) error { return nil })
		if !errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.q, err, c.want)
		}
	}
}

func TestACancelledQueryEnds(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	for range 10 {
		apply(t, s, g.Batch(2000))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	err := s.Query(ctx, &wire.Query{By: []string{"seq", "cmdline", "pcmdline"}}, func(*wire.QueryPage) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	stop := errors.New("the reader went away")
	if err := s.Query(t.Context(), &wire.Query{}, func(*wire.QueryPage) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of page", err)
	}
}

func TestLargeAnswersComeInPagesThatTheContractAllows(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var records []*wire.Record
	for i := range 800 {
		records = append(records, flow(0, process("/bin/a", fmt.Sprint(i)+strings.Repeat("x", 4000), i), 1, 1, "1.1.1.1", ""))
	}
	apply(t, s, batch(1, 1, records...))
	pages, rows := 0, 0
	err := s.Query(t.Context(), &wire.Query{By: []string{"cmdline"}}, func(p *wire.QueryPage) error {
		if size := proto.Size(p); size > wire.MaxPageBytes {
			t.Errorf("page of %d bytes", size)
		}
		pages, rows = pages+1, rows+len(p.GetRows())
		return nil
	})
	if err != nil || pages < 2 || rows != 800 {
		t.Errorf("got %v, %d pages, %d rows", err, pages, rows)
	}
}

func TestGapsAndNoticesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var records []*wire.Record
	for i := range 5 {
		at := start + int64(i)*int64(time.Minute)
		records = append(records,
			&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: at, End: at + 10, Reason: wire.GapReason_GAP_SUSPENDED, Process: process("/bin/x", "x", i)}}},
			&wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: at, Kind: wire.NoticeKind_NOTICE_NEW_NAME, Text: &wire.Text{Value: []byte("\xff\n")}}}})
	}
	apply(t, s, batch(1, 1, records...))
	var gaps []*wire.Gap
	q := &wire.Query{What: wire.Query_GAPS, Start: start + 5, End: start + int64(4*time.Minute), Limit: 3}
	for {
		_, page := ask(t, s, q)
		gaps = append(gaps, page.GetGaps()...)
		if q.Cursor = page.GetCursor(); len(q.Cursor) == 0 {
			break
		}
	}
	if len(gaps) != 4 || !proto.Equal(gaps[0], records[0].GetGap()) || !proto.Equal(gaps[3], records[6].GetGap()) {
		t.Errorf("gaps: %v", gaps)
	}
	_, page := ask(t, s, &wire.Query{What: wire.Query_NOTICES, Start: start + 1})
	if got := page.GetNotices(); len(got) != 4 || !proto.Equal(got[0], records[3].GetNotice()) {
		t.Errorf("notices: %v", got)
	}
}

func TestAQueryOfTheLastHourDoesNotReadTheRest(t *testing.T) {
	t.Parallel()
	s := sample(t)
	for _, text := range []string{
		"SELECT sum(sent) FROM flows f WHERE f.kind < 3 AND f.window IN (SELECT id FROM windows WHERE ended >= 1 AND ended < 2)",
		"SELECT exe, sum(send) FROM connections WHERE contime > '2026-01-01' GROUP BY exe",
		"SELECT exe, sum(send) FROM connections WHERE window_end > 5 GROUP BY exe",
	} {
		rows, err := s.readers.Load().Query("EXPLAIN QUERY PLAN " + text)
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(detail + "\n")
		}
		rows.Close()
		if !strings.Contains(plan.String(), "SEARCH f USING INDEX flows_window") {
			t.Errorf("%s reads all flows:\n%s", text, plan.String())
		}
	}
}
