package storetest

import (
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Sample has six flows in an hour, one a packet copy that no sum should have.
func Sample() *sdk.Batch {
	curl, ssh := Process("/usr/bin/curl", "curl\x00-H\x00say \"it's\"", 1), Process("/usr/bin/ssh", "ssh", 2)
	ssh.Ruid = 0
	copied := Flow(60, ssh, 1000, 1000, "10.1.2.3", "")
	copied.GetFlow().Layer = wire.Layer_LAYER_PACKET
	orphan := Flow(1800, ssh, 4, 40, "fe80::1", "")
	orphan.GetFlow().Parent = nil
	return Batch(1, 1,
		Flow(0, curl, 1, 10, "93.184.216.34", "www.example.org"),
		Flow(60, curl, 2, 20, "93.184.216.34", "www.example.org"),
		Flow(600, curl, 3, 30, "2001:db8::7", "example.com"),
		orphan, copied,
		Flow(3000, Process("/opt/back\\slash\xff", "x", 3), 5, 50, "192.168.1.1", ""),
	)
}

// Question is a query of [Sample], and its answer as [Ask] shows it.
type Question struct {
	Name  string
	Query *wire.Query
	Want  []string
}

// Questions are about grouping, filters, order and time.
func Questions() []Question {
	exe := []string{"exe"}
	all3 := []string{"/opt/back\\slash\xff 5/50/1", "/usr/bin/curl 6/60/3", "/usr/bin/ssh 4/40/1"}
	return []Question{
		{"totals only", &wire.Query{}, []string{"15/150/5"}},
		{"totals of nothing", &wire.Query{Where: Equal("exe", "/none")}, []string{"0/0/0"}},
		{"by executable", &wire.Query{By: exe}, all3},
		{"by two", &wire.Query{By: []string{"uid", "name"}}, []string{"0 ssh 4/40/1", "1000 back\\slash\xff 5/50/1", "1000 curl 6/60/3"}},
		{"a dimension twice", &wire.Query{By: []string{"uid", "uid"}}, []string{"0 0 4/40/1", "1000 1000 11/110/4"}},
		{"by a measure", &wire.Query{By: exe, Order: []*wire.Order{{Column: "received", Descending: true}}, Limit: 1},
			[]string{"/usr/bin/curl 6/60/3"}},
		{"by rows, then the name", &wire.Query{By: exe, Order: []*wire.Order{{Column: "rows"}, {Column: "exe", Descending: true}}},
			[]string{"/usr/bin/ssh 4/40/1", all3[0], all3[1]}},
		{"quotes", &wire.Query{Where: Equal("cmdline", `curl -H 'say "it'"'"'s"'`)}, []string{"6/60/3"}},
		{"a part with a quote", &wire.Query{Where: Compare("cmdline", wire.Compare_SUBSTRING, `say "it`)}, []string{"6/60/3"}},
		{"bytes", &wire.Query{By: exe, Where: Equal("exe", "/opt/back\\slash\xff")}, all3[:1]},
		{"bytes, prefix", &wire.Query{By: exe, Where: Compare("exe", wire.Compare_PREFIX, "/opt/back\\")}, all3[:1]},
		{"any value", &wire.Query{By: exe, Where: Equal("name", "ssh", "curl")}, all3[1:]},
		{"no value", &wire.Query{By: exe, Where: Equal("name")}, nil},
		{"prefix", &wire.Query{By: exe, Where: Compare("domain", wire.Compare_PREFIX, "org.example")}, []string{"/usr/bin/curl 3/30/2"}},
		{"prefix is no pattern", &wire.Query{By: exe, Where: Compare("exe", wire.Compare_PREFIX, "%", "_usr", "*")}, nil},
		{"a value named as a column", &wire.Query{By: exe, Where: Equal("name", "name")}, nil},
		{"injection", &wire.Query{By: exe, Where: Equal("exe", "' OR 1=1 --")}, nil},
		{"number", &wire.Query{By: exe, Where: Equal("uid", "0")}, all3[2:]},
		{"not", &wire.Query{By: exe, Where: Not(Equal("uid", "0"))}, all3[:2]},
		{"not, where there is no parent", &wire.Query{By: exe, Where: Not(Equal("pexe", "/usr/bin/bash"))}, all3[2:]},
		{"and, or", &wire.Query{By: exe, Where: All(Equal("rport", "443"), AnyOf(Equal("name", "ssh"), Equal("domain", "com.example")))},
			[]string{"/usr/bin/curl 3/30/1", all3[2]}},
		{"and of nothing", &wire.Query{By: exe, Where: All()}, all3},
		{"or of nothing", &wire.Query{By: exe, Where: AnyOf()}, nil},
		{"subnet", &wire.Query{By: []string{"raddr"}, Where: Compare("raddr", wire.Compare_SUBNET, "93.0.0.0/8", "2001:db8::/32", "192.168.1.1")},
			[]string{"192.168.1.1 5/50/1", "2001:db8::7 3/30/1", "93.184.216.34 3/30/2"}},
		{"all of IPv4 is not IPv6", &wire.Query{By: exe, Where: Compare("raddr", wire.Compare_SUBNET, "0.0.0.0/0")},
			[]string{all3[0], "/usr/bin/curl 3/30/2"}},
		{"another layer", &wire.Query{By: exe, Where: Equal("layer", "packet")}, []string{"/usr/bin/ssh 1000/1000/1"}},
		{"word", &wire.Query{By: []string{"direction", "result", "domain_source"}, Where: Equal("direction", "out")},
			[]string{"out open sni 15/150/5"}},
		{"range", &wire.Query{By: exe, Start: Start + 70e9, End: Start + 610e9}, []string{"/usr/bin/curl 2/20/1"}},
		{"range without end", &wire.Query{Start: Start + 610e9}, []string{"12/120/3"}},
		{"series", &wire.Query{By: []string{"uid"}, Bucket: int64(30 * time.Minute), Where: Equal("uid", "1000")},
			[]string{"1000 11-21T12:00 6/60/3", "1000 11-21T12:30 5/50/1"}},
		{"series of everything, newest first", &wire.Query{Bucket: int64(time.Hour), Order: []*wire.Order{{Column: "bucket", Descending: true}}},
			[]string{"11-21T12:00 15/150/5"}},
		{"host and run", &wire.Query{By: []string{"host_id", "epoch"}}, []string{"01" + strings.Repeat("0", 30) + " 01" + strings.Repeat("0", 30) + " 15/150/5"}},
		{"site", &wire.Query{By: []string{"site"}, Where: Not(Equal("site", ""))}, []string{"com.example 3/30/1", "org.example 3/30/2"}},
		{"series by day in a zone", &wire.Query{Bucket: int64(24 * time.Hour), Zone: "Asia/Kolkata"}, []string{"11-20T18:30 15/150/5"}},
		{"one host of a fleet", &wire.Query{By: []string{"host_id"}, Where: Equal("host_id", "02"+strings.Repeat("0", 30))}, nil},
	}
}
