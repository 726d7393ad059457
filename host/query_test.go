package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

func compare(column string, o wire.Compare_Operator, value string) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_Compare{Compare: &wire.Compare{Column: column, Operator: o, Values: [][]byte{[]byte(value)}}}}
}

func not(f *wire.Filter) *wire.Filter { return &wire.Filter{Kind: &wire.Filter_Not{Not: f}} }

func TestFilters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*wire.Filter{
		"name=curl":         compare("name", wire.Compare_EQUAL, "curl"),
		"name!=curl":        not(compare("name", wire.Compare_EQUAL, "curl")),
		"exe^=/usr/":        compare("exe", wire.Compare_PREFIX, "/usr/"),
		"exe!^=/usr/":       not(compare("exe", wire.Compare_PREFIX, "/usr/")),
		"cmdline*=a b=c":    compare("cmdline", wire.Compare_SUBSTRING, "a b=c"),
		"raddr<<10.0.0.0/8": compare("raddr", wire.Compare_SUBNET, "10.0.0.0/8"),
		"raddr!<<::/0":      not(compare("raddr", wire.Compare_SUBNET, "::/0")),
		"name=":             compare("name", wire.Compare_EQUAL, ""),
		"name=\xff\\x\n\"'": compare("name", wire.Compare_EQUAL, "\xff\\x\n\"'"),
		"name== !=":         compare("name", wire.Compare_EQUAL, "= !="),
		"name= x":           compare("name", wire.Compare_EQUAL, " x"),
	} {
		got, err := parseFilter(text)
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "name", "=curl", "name curl", "Name=x", "name =x", "name<x", "name!x", "na\x1bme=x"} {
		if got, err := parseFilter(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		} else if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q: raw bytes in %q", bad, err)
		}
	}
}

func TestWhereIsAndAnyIsOr(t *testing.T) {
	t.Parallel()
	a, b, c := compare("a", 0, "1"), compare("b", 0, "2"), compare("c", 0, "3")
	got, err := parseFilters([]string{"a=1"}, []string{"b=2", "c=3"})
	if err != nil {
		t.Fatal(err)
	}
	anyOf := &wire.Filter{Kind: &wire.Filter_Any{Any: &wire.Filters{Filters: []*wire.Filter{b, c}}}}
	want := &wire.Filter{Kind: &wire.Filter_All{All: &wire.Filters{Filters: []*wire.Filter{a, anyOf}}}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
	if got, err := parseFilters([]string{"a=1"}, nil); err != nil || !proto.Equal(got, a) {
		t.Errorf("one filter: %v, %v", got, err)
	}
	if got, err := parseFilters(nil, nil); err != nil || got != nil {
		t.Errorf("no filter: %v, %v", got, err)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("there", 2*60*60)
	now := time.Date(2026, 11, 21, 18, 30, 15, 0, zone)
	for text, want := range map[string]string{
		"1h":                        "2026-11-21 17:30:15",
		"90s":                       "2026-11-21 18:28:45",
		"1d12h":                     "2026-11-20 06:30:15",
		"2w":                        "2026-11-07 18:30:15",
		"now":                       "2026-11-21 18:30:15",
		"17:00":                     "2026-11-21 17:00:00",
		"2026-11-20":                "2026-11-20 00:00:00",
		"2026-11-20 17:00":          "2026-11-20 17:00:00",
		"2026-11-20T17:00:01":       "2026-11-20 17:00:01",
		"2026-11-20 17:00:01":       "2026-11-20 17:00:01",
		"2026-11-20T17:00:00Z":      "2026-11-20 19:00:00",
		"2026-11-20T17:00:00+02:00": "2026-11-20 17:00:00",
	} {
		got, err := parseWhen(text, now)
		if at := time.Unix(0, got).In(zone).Format(time.DateTime); err != nil || at != want {
			t.Errorf("%q: %s, %v; want %s", text, at, err, want)
		}
	}
	for _, bad := range []string{"", "1", "h", "1y", "-1h", "1.5h", "25:00", "2026-13-01", "yesterday", "1970-01-01T00:00:00Z",
		"3000-01-01", "9999999999w", "5000w5000w"} {
		if got, err := parseWhen(bad, now); err == nil {
			t.Errorf("%q is %d", bad, got)
		}
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	got, err := parseOrder("-sent,exe")
	if err != nil || len(got) != 2 || got[0].GetColumn() != "sent" || !got[0].GetDescending() || got[1].GetColumn() != "exe" || got[1].GetDescending() {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{",", "exe,", "-", "--sent", "exe desc", "Sent"} {
		if got, err := parseOrder(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestFlagsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]queryFlags{
		"ask one":                 {gaps: true, notices: true},
		"choose one":              {json: true, csv: true},
		"no place for --totals":   {csv: true, totals: true},
		"and --others":            {csv: true, others: true, limit: 3},
		"not for a series":        {others: true, limit: 3, bucket: "1h"},
		"say a --limit":           {others: true},
		"two ways to get":         {others: true, limit: 3, cursor: "AA"},
		"is none that an answer":  {cursor: "??"},
		"alone":                   {gaps: true, by: []string{"exe"}},
		"--zone is for --bucket":  {zone: "UTC"},
		"it is a sum":             {by: []string{"exe", "sends"}},
		"twice":                   {by: []string{"exe", "name", "exe"}},
		"want columns separated":  {by: []string{"exe desc"}},
		"is not after --since":    {since: "1h", until: "2h"},
		"--since: \"x\" is no":    {since: "x"},
		"--until: \"x\" is no":    {until: "x"},
		"longer than nothing":     {bucket: "0s"},
		"--bucket: \"x\" is no":   {bucket: "x"},
		"--order \"a b\"":         {order: "a b"},
		"--any \"x\" is no":       {anyOf: []string{"x"}},
		"--where \"y\" is no":     {where: []string{"y"}},
		"is longer than 100 year": {bucket: "9999999w"},
	} {
		_, err := f.question(time.Now(), "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
}

func TestQuestion(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	f := queryFlags{by: []string{"exe"}, since: "1h", until: "17:30", bucket: "5m", limit: 7, totals: true, order: "-sent"}
	got, err := f.question(now, "Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	want := &wire.Query{
		By: []string{"exe"}, Start: now.Add(-time.Hour).UnixNano(), End: now.Add(-30 * time.Minute).UnixNano(),
		Bucket: int64(5 * time.Minute), Zone: "Europe/Berlin", Limit: 7, Totals: true,
		Order: []*wire.Order{{Column: "sent", Descending: true}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
}

func TestZoneOfBuckets(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "localtime")
	if err := os.Symlink("/usr/share/zoneinfo/Europe/Berlin", link); err != nil {
		t.Fatal(err)
	}
	needZones(t)
	for tz, want := range map[string]string{"": "Europe/Berlin", "UTC": "UTC", ":Asia/Tokyo": "Asia/Tokyo", "CET-1": "", "Local": ""} {
		if got := zoneName(func(string) string { return tz }, link); got != want {
			t.Errorf("TZ=%q: %q, want %q", tz, got, want)
		}
	}
	if got := zoneName(func(string) string { return "" }, "/nonexistent"); got != "" {
		t.Errorf("without a link: %q", got)
	}
}

func TestBucketsAreShownInTheZoneAskedFor(t *testing.T) {
	t.Parallel()
	needZones(t)
	// Clocks in Berlin went back from 03:00 to 02:00 on 25 October 2026: that day has 25 hours.
	before, after := time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 23, 0, 0, 0, time.UTC)
	page := &wire.QueryPage{Rows: []*wire.QueryRow{{Bucket: before.UnixNano()}, {Bucket: after.UnixNano()}}}
	for _, c := range []struct {
		flags queryFlags
		want  []string
	}{
		{queryFlags{zone: "Europe/Berlin"}, []string{"2026-10-25 00:00:00", "2026-10-26 00:00:00"}},
		{queryFlags{zone: "Europe/Berlin", json: true}, []string{"2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"}},
		{queryFlags{zone: "Europe/Berlin", csv: true}, []string{"2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"}},
		{queryFlags{zone: "UTC"}, []string{"2026-10-24 22:00:00", "2026-10-25 23:00:00"}},
		{queryFlags{json: true}, []string{"2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"}},
		{queryFlags{}, []string{before.Local().Format(time.DateTime), after.Local().Format(time.DateTime)}},
	} {
		call, out, _ := testCall(t)
		zone, err := c.flags.shown()
		if err != nil {
			t.Fatal(err)
		}
		show(t, &wire.Query{Bucket: int64(24 * time.Hour)}, call.sink(c.flags, zone), page)
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v: no %s in\n%s", c.flags, want, out)
			}
		}
	}
}

// needZones skips a test on a machine that does not know time zones.
func needZones(t *testing.T) {
	t.Helper()
	_, err := time.LoadLocation("Europe/Berlin")
	need.Have(t, "the time zones of package tzdata", err == nil)
}

// show runs pages through a sink.
func show(t *testing.T, q *wire.Query, s sink, pages ...*wire.QueryPage) *answer {
	t.Helper()
	a := newAnswer(q, s)
	for _, p := range pages {
		if err := a.page(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnswersInEveryFormat(t *testing.T) {
	t.Parallel()
	text := func(s string) *wire.Value { return &wire.Value{Kind: &wire.Value_Text{Text: []byte(s)}} }
	number := func(n int64) *wire.Value { return &wire.Value{Kind: &wire.Value_Number{Number: n}} }
	q := &wire.Query{By: []string{"exe", "uid"}, Bucket: int64(time.Minute)}
	at := time.Date(2026, 11, 21, 17, 21, 0, 0, time.UTC).UnixNano()
	pages := []*wire.QueryPage{
		{Columns: q.GetBy(), Rows: []*wire.QueryRow{{
			Values: []*wire.Value{text("/usr/bin/curl"), number(1000)}, Bucket: at,
			Measures: &wire.Measures{Sent: 962_512, Received: 44_295_400, Rows: 12, Connects: 3},
		}}},
		{Rows: []*wire.QueryRow{{
			Values: []*wire.Value{text("/tmp/\x1b[2J\",é\\"), number(-1)}, Bucket: at, Measures: &wire.Measures{Sent: 18446744073709551615},
		}}, Cursor: []byte("more")},
	}
	totals := &wire.QueryPage{Totals: &wire.Measures{Sent: 5, Received: 6, Rows: 7}, Cursor: []byte("more")}
	for _, c := range []struct {
		name  string
		sink  func(out *bytes.Buffer) sink
		pages []*wire.QueryPage
	}{
		{"table", func(out *bytes.Buffer) sink { return &tableSink{out: out, zone: time.UTC} }, append([]*wire.QueryPage{totals}, pages...)},
		{"csv", func(out *bytes.Buffer) sink { return newCSVSink(out, time.UTC) }, pages},
		{"json", func(out *bytes.Buffer) sink { return &jsonSink{out: out, zone: time.UTC} }, append([]*wire.QueryPage{totals}, pages...)},
		{"json-empty", func(out *bytes.Buffer) sink { return &jsonSink{out: out, zone: time.UTC} }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			a := show(t, q, c.sink(&out), c.pages...)
			golden(t, "query-"+c.name, out.Bytes())
			if a.more != (c.pages != nil) {
				t.Errorf("more: %v", a.more)
			}
		})
	}
}

func TestOthersAreTheRestOfTheAnswer(t *testing.T) {
	t.Parallel()
	q := &wire.Query{By: []string{"exe"}, Limit: 1, Others: true}
	pages := []*wire.QueryPage{
		{Rows: []*wire.QueryRow{{Values: []*wire.Value{{Kind: &wire.Value_Text{Text: []byte("/bin/a")}}}, Measures: &wire.Measures{Sent: 9000}}}},
		{Others: &wire.Measures{Sent: 5000, Rows: 3}, OthersGroups: 2, Cursor: []byte("rest"), Totals: &wire.Measures{Sent: 14000}},
	}
	var table, object bytes.Buffer
	if a := show(t, q, &tableSink{out: &table, zone: time.UTC}, pages...); a.more {
		t.Error("the rest is told, and said to be missing")
	}
	show(t, q, &jsonSink{out: &object, zone: time.UTC}, pages...)
	if !strings.Contains(table.String(), "2 others   5.0 kB") || !strings.Contains(table.String(), "total     14.0 kB") {
		t.Errorf("table:\n%s", &table)
	}
	var answer struct {
		Others map[string]uint64 `json:"others"`
		Groups int               `json:"others_groups"`
	}
	if err := json.Unmarshal(object.Bytes(), &answer); err != nil || answer.Others["sent"] != 5000 || answer.Groups != 2 {
		t.Errorf("json: %v\n%s", err, &object)
	}
}

func TestAnAnswerGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	cursor := []byte{0, 0xff, '"', '\n'}
	q, err := queryFlags{cursor: cursorText(cursor)}.question(time.Now(), "")
	if err != nil || !bytes.Equal(q.GetCursor(), cursor) {
		t.Errorf("cursor %q, %v", q.GetCursor(), err)
	}
}

func TestGapsAndNotices(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 17, 21, 0, 0, time.UTC).UnixNano()
	process := &wire.Process{
		Id: &wire.ProcessId{Tgid: 42}, Name: &wire.Text{Value: []byte("x\x07")}, Ruid: 1000,
		Executable: &wire.Executable{Path: &wire.Text{Value: []byte("/tmp/x")}},
	}
	var out bytes.Buffer
	show(t, &wire.Query{What: wire.Query_GAPS}, &tableSink{out: &out, zone: time.UTC}, &wire.QueryPage{Gaps: []*wire.Gap{{
		Start: at, End: at + int64(time.Minute), Reason: wire.GapReason_GAP_HOST_DOWN, Cause: "stopped", Sent: 1234,
	}}})
	show(t, &wire.Query{What: wire.Query_NOTICES}, &tableSink{out: &out, zone: time.UTC}, &wire.QueryPage{Notices: []*wire.Notice{{
		Time: at, Kind: wire.NoticeKind_NOTICE_NEW_EXECUTABLE, Text: &wire.Text{Value: []byte("new: x")}, Process: process,
	}}})
	golden(t, "query-events", out.Bytes())
}

func TestPluginsTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := printPlugins(&out, []*wire.PluginStatus{
		{Name: "sqlite", Kinds: []string{"sink", "store"}, State: "running", Pid: 4711, Uid: 60905, Restarts: 1, Acknowledged: 123456},
		{Name: "notify", Kinds: []string{"sink"}, State: "backoff", Queued: 9, LastError: "exit\n\x1b[31mcode 2", Consequence: "notify gets nothing"},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plugins", out.Bytes())
}

func TestStatusText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, a := range []statusAnswer{
		{}, {stale: true},
		fromWire(&wire.StatusResponse{
			Pid: 7, Version: "2", Started: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC).UnixNano(), Degraded: true,
			Messages: []string{"plugin \x1b[31mx\nis blocked"}, ConfigDir: "/home/ada", Counters: map[string]uint64{"rows": 3, "gaps": 0},
		}),
	} {
		if err := a.print(&out, time.UTC); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "status", out.Bytes())
}

// golden compares with testdata; UPDATE=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
