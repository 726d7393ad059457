package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
	"github.com/picosnitch/picosnitch/test/dbserver"
	"github.com/picosnitch/picosnitch/test/storetest"
)

// queryCases are about asking.
func queryCases() map[string]func(*testing.T, *dbserver.Server) {
	return map[string]func(*testing.T, *dbserver.Server){
		"group filter and order":     groupFilterAndOrder,
		"every column":               everyColumn,
		"pages":                      pagesGoOn,
		"totals and others":          totalsAndOthers,
		"wrong queries":              wrongQueries,
		"a cancelled statement ends": statementEnds,
		"cancelled":                  cancelled,
		"large answers":              largeAnswers,
		"gaps and notices":           gapsAndNotices,
		"buckets":                    bucketsFollowTheZone,
		"absurd rows of one host":    absurdRows,
		"hashes that came later":     laterHashes,
	}
}

// sample is a store with the sample.
func sample(t *testing.T, server *dbserver.Server) *Store {
	t.Helper()
	s := open(t, ours(t, server))
	apply(t, s, storetest.Sample())
	return s
}

func groupFilterAndOrder(t *testing.T, server *dbserver.Server) {
	s := sample(t, server)
	for _, q := range storetest.Questions() {
		t.Run(q.Name, func(t *testing.T) { wantRows(t, s, q.Query, q.Want...) })
	}
}

func everyColumn(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	records := append(sdktest.Hostile(), sdktest.Records(3, 40)...)
	// Text that a careless comparison takes for one.
	for _, path := range []string{"/bin/a", "/bin/a ", "/bin/A", "/bin/ä", "/bin/a\xc3", "/bin/a%", "/bin/🦀"} {
		records = append(records, flow(0, process(path, path, 1), 1, 1, "1.1.1.1", ""))
	}
	apply(t, s, batch(1, 1, records...))
	for _, c := range sdk.Columns() {
		var rows []*wire.QueryRow
		err := s.Query(t.Context(), &wire.Query{By: []string{c.Name}}, func(p *wire.QueryPage) error {
			rows = append(rows, p.GetRows()...)
			return nil
		})
		if err != nil || len(rows) == 0 {
			t.Fatalf("by %s: %v, %d rows", c.Name, err, len(rows))
		}
		for i, row := range rows {
			v := string(row.GetValues()[0].GetText())
			if c.Type == sdk.Integer {
				v = fmt.Sprint(row.GetValues()[0].GetNumber())
			} else if i > 0 && sdk.EscapeString(string(rows[i-1].GetValues()[0].GetText())) >= sdk.EscapeString(v) {
				t.Errorf("%s: %q does not come after %q", c.Name, v, rows[i-1].GetValues()[0].GetText())
			}
			got, _ := ask(t, s, &wire.Query{By: []string{c.Name}, Where: equal(c.Name, v)})
			if diff := cmp.Diff([]string{rowText(row)}, got); diff != "" {
				t.Errorf("%s = %q:\n%s", c.Name, v, diff)
			}
		}
	}
}

func pagesGoOn(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	apply(t, s, newGenerator(5).Batch(300))
	for _, order := range [][]*wire.Order{nil, {{Column: "sends", Descending: true}, {Column: "raddr"}}, {{Column: "received"}}} {
		q := &wire.Query{By: []string{"raddr", "cmdline"}, Order: order, Limit: 10000, Bucket: int64(time.Hour)}
		want, _ := ask(t, s, q)
		var got []string
		q = proto.CloneOf(q)
		q.Limit = 29
		for {
			rows, last := ask(t, s, q)
			got = append(got, rows...)
			if q.Cursor = last.GetCursor(); len(q.Cursor) == 0 {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order %v: %s", order, diff)
		}
	}
}

func totalsAndOthers(t *testing.T, server *dbserver.Server) {
	s := sample(t, server)
	q := &wire.Query{By: []string{"exe"}, Limit: 1, Totals: true, Others: true, Order: []*wire.Order{{Column: "sent", Descending: true}}}
	for _, want := range []struct {
		row    string
		others uint64
		groups uint64
	}{{"/usr/bin/curl 6/60/3", 9, 2}, {"/opt/back\\slash\xff 5/50/1", 4, 1}, {"/usr/bin/ssh 4/40/1", 0, 0}} {
		rows, page := ask(t, s, q)
		if diff := cmp.Diff([]string{want.row}, rows); diff != "" {
			t.Error(diff)
		}
		if got := page.GetTotals(); got.GetSent() != 15 || got.GetRows() != 5 {
			t.Errorf("totals %v", got)
		}
		if page.GetOthers().GetSent() != want.others || page.GetOthersGroups() != want.groups {
			t.Errorf("others %v of %d groups, want %d of %d", page.GetOthers(), page.GetOthersGroups(), want.others, want.groups)
		}
		q.Cursor = page.GetCursor()
	}
	if len(q.GetCursor()) != 0 {
		t.Error("a cursor after the last row")
	}
}

func wrongQueries(t *testing.T, server *dbserver.Server) {
	s := sample(t, server)
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
		{&wire.Query{Cursor: []byte(`{"After": [null]}`)}, "cursor"},
		{&wire.Query{Bucket: 1, Others: true}, "others"},
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

func cancelled(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	g := newGenerator(1)
	for range 4 {
		apply(t, s, g.Batch(2000))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := s.Query(ctx, &wire.Query{By: []string{"seq", "cmdline", "pcmdline"}, Limit: 1_000_000}, func(*wire.QueryPage) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	stop := errors.New("the reader went away")
	for range 2 * readers { // each in a place of the pool
		if err := s.Query(t.Context(), &wire.Query{}, func(*wire.QueryPage) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("got %v, want the error of page", err)
		}
	}
	wantRows(t, s, &wire.Query{By: []string{"uid"}, Where: equal("uid", "77")})
}

// statementEnds cancels a statement that takes long and looks for it at the server.
func statementEnds(t *testing.T, server *dbserver.Server) {
	session, err := open(t, ours(t, server)).server.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	statement, running := "SELECT pg_sleep(45.5)", "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%sleep(45%' AND pid <> pg_backend_pid()"
	if server.Socket != "" {
		statement, running = "SELECT SLEEP(45.5)", "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(45%' AND id <> CONNECTION_ID()"
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := time.AfterFunc(time.Second, cancel)
	defer stop.Stop()
	rows, err := session.Query(ctx, statement)
	if err == nil {
		for rows.Next() {
			t.Error("the statement has an answer")
		}
		err = rows.Close()
	}
	if err == nil {
		t.Error("the statement ended by itself")
	}
	for end := time.Now().Add(20 * time.Second); server.SQL(running) != "0"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the statement still runs at the server")
		}
	}
}

func largeAnswers(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
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

func gapsAndNotices(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
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

func laterHashes(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	waiting, other := process("/bin/waiting", "w", 1), process("/bin/other", "o", 2)
	for _, p := range []*wire.Process{waiting, other} {
		p.Executable.Sha256, p.Executable.HashStatus = nil, wire.HashStatus_HASH_PENDING
	}
	x := waiting.Executable
	apply(t, s, batch(1, 1, flow(0, waiting, 1, 1, "1.1.1.1", ""), flow(0, other, 2, 2, "1.1.1.1", "")),
		batch(1, 3, &wire.Record{Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{Superblock: x.Superblock, Device: x.Device,
			Inode: x.Inode, Ctime: x.Ctime, Sha256: bytes.Repeat([]byte{0xab}, 32), HashStatus: wire.HashStatus_HASH_OK,
			Epoch: append([]byte{1}, make([]byte, 15)...), First: 1, Last: 2}}}))
	sum := strings.Repeat("ab", 32)
	wantRows(t, s, &wire.Query{By: []string{"exe", "hash_status"}, Where: equal("sha256", sum)}, "/bin/waiting ok 1/1/1")
	wantRows(t, s, &wire.Query{By: []string{"exe", "sha256"}}, "/bin/other  2/2/1", "/bin/waiting "+sum+" 1/1/1")
	table := tableName(t)
	if got := server.SQL("SELECT exe, sha256 FROM " + table + "_complete WHERE sha256 <> ''"); !strings.Contains(got, sum) {
		t.Errorf("the view shows %q", got)
	}
	if got := server.SQL("SELECT count(*) FROM " + table + " WHERE sha256 <> ''"); got != "0" {
		t.Errorf("%s rows were changed", got)
	}
}

// absurdRows are written by a host that lies: they must not fail what is asked about the others.
func absurdRows(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	p := process("/bin/a", "a", 1)
	liar := []*wire.Record{flow(0, p, 1<<63-1, 1, "1.1.1.1", ""), flow(0, p, 1<<63-1, 1, "1.1.1.1", "")}
	liar[1].GetFlow().Window.End = math.MaxInt64
	liar = append(liar, &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: start, End: start + 1}}})
	apply(t, s, batchOf(2, 1, 1, liar...), batch(1, 1, flow(0, p, 5, 6, "1.1.1.1", ""),
		&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: start, End: start + 1, Cause: "mine"}}}))
	table := tableName(t)
	server.SQL("UPDATE " + table + "_gaps SET record = 'nonsense' WHERE host_id LIKE '02%'")
	server.SQL("INSERT INTO " + table + "_batches SELECT host_id, '" + strings.Repeat("9", 32) + "', 1, 9223372036854775807, 9, previous, root, '' FROM " + table + "_batches WHERE host_id LIKE '02%'")
	wantRows(t, s, &wire.Query{}, "9223372036854775807/8/3")
	wantRows(t, s, &wire.Query{Bucket: int64(time.Hour), Where: equal("host_id", "01"+strings.Repeat("0", 30))}, "11-21T12:00 5/6/1")
	if rows, _ := ask(t, s, &wire.Query{Bucket: int64(time.Hour), Zone: "Europe/Berlin"}); len(rows) != 1 {
		t.Errorf("series: %v", rows)
	}
	if _, page := ask(t, s, &wire.Query{What: wire.Query_GAPS}); len(page.GetGaps()) != 1 || page.GetGaps()[0].GetCause() != "mine" {
		t.Errorf("gaps: %v", page.GetGaps())
	}
	for _, b := range evidence(t, s, nil) {
		if sound := b.GetState() == wire.BatchEvidence_SOUND; sound != (b.GetHostId()[0] == 1) {
			t.Errorf("evidence: %v", b)
		}
	}
}
