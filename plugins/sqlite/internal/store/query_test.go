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
func sample(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
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

func TestQueriesGroupFilterAndOrder(t *testing.T) {
	t.Parallel()
	s := sample(t)
	exe := []string{"exe"}
	all3 := []string{"/opt/back\\slash\xff 5/50/1", "/usr/bin/curl 6/60/3", "/usr/bin/ssh 4/40/1"}
	for _, c := range []struct {
		name string
		q    *wire.Query
		want []string
	}{
		{"totals only", &wire.Query{}, []string{"15/150/5"}},
		{"totals of nothing", &wire.Query{Where: equal("exe", "/none")}, []string{"0/0/0"}},
		{"by executable", &wire.Query{By: exe}, all3},
		{"by two", &wire.Query{By: []string{"uid", "name"}}, []string{"0 ssh 4/40/1", "1000 back\\slash\xff 5/50/1", "1000 curl 6/60/3"}},
		{"a dimension twice", &wire.Query{By: []string{"uid", "uid"}}, []string{"0 0 4/40/1", "1000 1000 11/110/4"}},
		{"by a measure", &wire.Query{By: exe, Order: []*wire.Order{{Column: "received", Descending: true}}, Limit: 1},
			[]string{"/usr/bin/curl 6/60/3"}},
		{"by rows, then the name", &wire.Query{By: exe, Order: []*wire.Order{{Column: "rows"}, {Column: "exe", Descending: true}}},
			[]string{"/usr/bin/ssh 4/40/1", all3[0], all3[1]}},
		{"quotes", &wire.Query{Where: equal("cmdline", `curl -H 'say "it'"'"'s"'`)}, []string{"6/60/3"}},
		{"a part with a quote", &wire.Query{Where: compare("cmdline", wire.Compare_SUBSTRING, `say "it`)}, []string{"6/60/3"}},
		{"bytes", &wire.Query{By: exe, Where: equal("exe", "/opt/back\\slash\xff")}, all3[:1]},
		{"bytes, prefix", &wire.Query{By: exe, Where: compare("exe", wire.Compare_PREFIX, "/opt/back\\")}, all3[:1]},
		{"any value", &wire.Query{By: exe, Where: equal("name", "ssh", "curl")}, all3[1:]},
		{"no value", &wire.Query{By: exe, Where: equal("name")}, nil},
		{"prefix", &wire.Query{By: exe, Where: compare("domain", wire.Compare_PREFIX, "org.example")}, []string{"/usr/bin/curl 3/30/2"}},
		{"prefix is no pattern", &wire.Query{By: exe, Where: compare("exe", wire.Compare_PREFIX, "%", "_usr", "*")}, nil},
		{"a value named as a column", &wire.Query{By: exe, Where: equal("name", "name")}, nil},
		{"injection", &wire.Query{By: exe, Where: equal("exe", "' OR 1=1 --")}, nil},
		{"number", &wire.Query{By: exe, Where: equal("uid", "0")}, all3[2:]},
		{"not", &wire.Query{By: exe, Where: not(equal("uid", "0"))}, all3[:2]},
		{"not, where there is no parent", &wire.Query{By: exe, Where: not(equal("pexe", "/usr/bin/bash"))}, all3[2:]},
		{"and, or", &wire.Query{By: exe, Where: all(equal("rport", "443"), anyOf(equal("name", "ssh"), equal("domain", "com.example")))},
			[]string{"/usr/bin/curl 3/30/1", all3[2]}},
		{"and of nothing", &wire.Query{By: exe, Where: all()}, all3},
		{"or of nothing", &wire.Query{By: exe, Where: anyOf()}, nil},
		{"subnet", &wire.Query{By: []string{"raddr"}, Where: compare("raddr", wire.Compare_SUBNET, "93.0.0.0/8", "2001:db8::/32", "192.168.1.1")},
			[]string{"192.168.1.1 5/50/1", "2001:db8::7 3/30/1", "93.184.216.34 3/30/2"}},
		{"all of IPv4 is not IPv6", &wire.Query{By: exe, Where: compare("raddr", wire.Compare_SUBNET, "0.0.0.0/0")},
			[]string{all3[0], "/usr/bin/curl 3/30/2"}},
		{"another layer", &wire.Query{By: exe, Where: equal("layer", "packet")}, []string{"/usr/bin/ssh 1000/1000/1"}},
		{"word", &wire.Query{By: []string{"direction", "result", "domain_source"}, Where: equal("direction", "out")},
			[]string{"out open sni 15/150/5"}},
		{"range", &wire.Query{By: exe, Start: start + 70e9, End: start + 610e9}, []string{"/usr/bin/curl 2/20/1"}},
		{"range without end", &wire.Query{Start: start + 610e9}, []string{"12/120/3"}},
		{"series", &wire.Query{By: []string{"uid"}, Bucket: int64(30 * time.Minute), Where: equal("uid", "1000")},
			[]string{"1000 11-21T12:00 6/60/3", "1000 11-21T12:30 5/50/1"}},
		{"series of everything, newest first", &wire.Query{Bucket: int64(time.Hour), Order: []*wire.Order{{Column: "bucket", Descending: true}}},
			[]string{"11-21T12:00 15/150/5"}},
		{"host and run", &wire.Query{By: []string{"host_id", "epoch"}}, []string{"01" + strings.Repeat("0", 30) + " 01" + strings.Repeat("0", 30) + " 15/150/5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantRows(t, s, c.q, c.want...)
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
	apply(t, s, g.batch(600))
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
				apply(t, s, g.batch(50)) // must not shift what is being read
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
		apply(t, s, g.batch(2000))
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
