package name

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	getaddrinfo  = wire.NameSource_NAME_SOURCE_GETADDRINFO
	dnsProcess   = wire.NameSource_NAME_SOURCE_DNS_PROCESS
	dnsNamespace = wire.NameSource_NAME_SOURCE_DNS_NAMESPACE
	sni          = wire.NameSource_NAME_SOURCE_SNI
	sniOuter     = wire.NameSource_NAME_SOURCE_SNI_OUTER
	ptr          = wire.NameSource_NAME_SOURCE_PTR

	second = int64(time.Second)
	minute = int64(time.Minute)
)

// owner is a process of a user in the namespace 1.
func owner(process, user uint32) Owner {
	return Owner{Process: capture.Key{Tgid: process, Start: int64(process)}, UID: user, NetNS: 1}
}

// flow is one of an owner to an address, over the socket given.
func flow(o Owner, address string, socket uint64) *capture.Flow {
	return &capture.Flow{
		Process: o.Process, UID: o.UID, NetNS: o.NetNS, Socket: socket,
		Remote: netip.AddrPortFrom(netip.MustParseAddr(address), 443),
	}
}

func window(t *Table, start, end int64) {
	t.Window(&capture.Window{Start: capture.Moment{Boot: start}, End: capture.Moment{Boot: end}})
}

// learn makes a fact; times are in seconds.
func learn(t *Table, o Owner, source wire.NameSource, name, address string, at int64, ttl time.Duration) {
	t.Learn(Fact{Owner: o, Source: source, Name: name, Address: netip.MustParseAddr(address), Time: at * second, TTL: ttl})
}

// say writes names as "name source scope age".
func say(names []*wire.Domain) []string {
	short := map[wire.NameSource]string{
		getaddrinfo: "getaddrinfo", dnsProcess: "dns", sni: "sni", dnsNamespace: "neighbour", ptr: "ptr", sniOuter: "outer",
	}
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%s %s %s %ds", n.GetName().GetValue(), short[n.GetSource()], n.GetScope(), n.GetAge()/second))
	}
	return out
}

func want(t *testing.T, what string, got []*wire.Domain, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, say(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const web = "93.184.215.14"

func TestNamesComeInTheOrderOfTheRule(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me, other, resolver := owner(1, 1000), owner(2, 1000), owner(3, 500)
	learn(table, resolver, dnsProcess, "neighbour.example", web, 60, time.Hour)
	learn(table, resolver, ptr, "reverse.example", web, 61, time.Hour)
	learn(table, other, dnsProcess, "other.example", web, 50, time.Hour)
	learn(table, me, dnsProcess, "older.example", web, 10, time.Hour)
	learn(table, me, dnsProcess, "newer.example", web, 20, time.Hour)
	table.Learn(Fact{Owner: me, Source: sni, Name: "sni.example", Address: netip.MustParseAddr(web), Socket: 7, Time: 30 * second})
	table.Learn(Fact{Owner: me, Source: sniOuter, Name: "outer.example", Address: netip.MustParseAddr(web), Socket: 7, Time: 30 * second})
	table.Lookup(me, "Looked.Up.Example.", []netip.Addr{netip.MustParseAddr(web)}, 5*second)
	window(table, 90*second, 100*second)
	got := table.Names(flow(me, web, 7))
	want(t, "all sources", got,
		"looked.up.example getaddrinfo process 95s",
		"newer.example dns process 80s",
		"older.example dns process 90s",
		"sni.example sni process 70s",
		"neighbour.example neighbour netns 40s",
		"other.example neighbour netns 50s",
		"reverse.example ptr host 39s",
		"outer.example outer process 70s",
	)
}

func TestWhoIsToldAName(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	user, same, another, root, resolver := owner(1, 1000), owner(2, 1000), owner(3, 1001), owner(4, 0), owner(5, 101)
	elsewhere := owner(6, 0)
	elsewhere.NetNS = 2
	learn(table, user, dnsProcess, "user.example", web, 1, time.Hour)
	learn(table, resolver, dnsProcess, "resolver.example", web, 1, time.Hour)
	table.Lookup(user, "looked.example", []netip.Addr{netip.MustParseAddr(web)}, second)
	table.Learn(Fact{Owner: user, Source: sni, Name: "sni.example", Address: netip.MustParseAddr(web), Socket: 7, Time: second})
	window(table, 0, second)
	want(t, "the same socket in another process", table.Names(flow(another, web, 7)), "sni.example sni process 0s", "resolver.example neighbour netns 0s")
	want(t, "the same user", table.Names(flow(same, web, 8)), "resolver.example neighbour netns 0s", "user.example neighbour netns 0s")
	want(t, "another user", table.Names(flow(another, web, 9)), "resolver.example neighbour netns 0s")
	want(t, "root", table.Names(flow(root, web, 10)), "resolver.example neighbour netns 0s")
	want(t, "another namespace", table.Names(flow(elsewhere, web, 11)))
	want(t, "another address", table.Names(flow(user, "93.184.215.15", 12)))
}

func TestReverseLookUpsCountEverywhereAndStandInNobodysWay(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me, elsewhere := owner(1, 1000), owner(2, 0)
	elsewhere.NetNS = 2
	learn(table, Owner{}, ptr, "one.example", web, 1, time.Hour)
	learn(table, Owner{}, ptr, "two.example", web, 1, time.Hour)
	window(table, second, 2*second)
	both := []string{"one.example ptr host 1s", "two.example ptr host 1s"}
	want(t, "a connection", table.Names(flow(me, web, 7)), both...)
	want(t, "another network namespace", table.Names(flow(elsewhere, web, 8)), both...)

	table.Lookup(me, "two.example", []netip.Addr{netip.MustParseAddr(web)}, 60*second)
	window(table, 60*second, 61*second)
	want(t, "the connection, once a better name is known", table.Names(flow(me, web, 7)),
		"two.example getaddrinfo process 1s", "one.example ptr host 60s")

	window(table, 4000*second, 4001*second)
	want(t, "after the life of a reverse look-up", table.Names(flow(elsewhere, web, 8)))
	want(t, "the same of the connection", table.Names(flow(me, web, 7)), "two.example getaddrinfo process 3941s")
}

func TestFactsWithoutAnOwnerBelongToNobody(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	nobody, me := Owner{NetNS: 1}, owner(1, 0)
	learn(table, nobody, getaddrinfo, "a.example", web, 0, time.Hour)
	learn(table, nobody, sni, "b.example", web, 0, time.Hour)
	learn(table, nobody, wire.NameSource_NAME_SOURCE_NONE, "c.example", web, 0, time.Hour)
	want(t, "a process", table.Names(flow(me, web, 1)))
	learn(table, nobody, dnsProcess, "kernel.example", web, 0, time.Hour)
	want(t, "a hint by the kernel", table.Names(flow(me, web, 2)), "kernel.example neighbour netns 0s")
	want(t, "the kernel", table.Names(flow(nobody, web, 3)), "kernel.example neighbour netns 0s")
	if c := table.Counters(); c.Refused != 3 || c.Facts != 1 {
		t.Errorf("%+v", c)
	}
}

func TestForkedChildrenKnowWhatTheirParentLookedUp(t *testing.T) {
	t.Parallel()
	parent, child := owner(1, 0), owner(2, 33)
	table := New(Options{Parent: func(k capture.Key) (capture.Key, bool) { return parent.Process, k == child.Process }})
	table.Lookup(parent, "upstream.example", []netip.Addr{netip.MustParseAddr(web)}, second)
	want(t, "the child", table.Names(flow(child, web, 1)), "upstream.example getaddrinfo process 0s")
	want(t, "a stranger", table.Names(flow(owner(3, 33), web, 2)))
	endless := New(Options{Parent: func(k capture.Key) (capture.Key, bool) { return k, true }})
	want(t, "a lineage without an end", endless.Names(flow(child, web, 1)))
}

func TestNoNamesForAddressesThatMeanAnotherHostElsewhere(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me := owner(1, 1000)
	for _, address := range []string{
		"127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.1.1", "fe80::1", "fe80::1%eth0", "224.0.0.251",
		"ff02::fb", "255.255.255.255", "240.0.0.1", "::ffff:127.0.0.1",
	} {
		learn(table, me, dnsProcess, "pknic.example", address, 1, time.Hour)
		want(t, address, table.Names(flow(me, address, 1)))
	}
	if c := table.Counters(); c.Facts != 0 || c.Refused != 14 || c.Addresses != 0 {
		t.Errorf("%+v", c)
	}
	learn(table, me, dnsProcess, "lan.example", "::ffff:192.168.1.5", 1, time.Hour)
	want(t, "a mapped address", table.Names(flow(me, "192.168.1.5", 2)), "lan.example dns process 0s")
	want(t, "no address", table.Names(&capture.Flow{Process: me.Process, NetNS: 1}))
}

func TestNamesOfHosts(t *testing.T) {
	t.Parallel()
	for raw, name := range map[string]string{
		"Example.ORG": "example.org", "example.org.": "example.org", "localhost": "localhost", "_dmarc.example": "_dmarc.example",
		"münchen.example": "münchen.example", "4.3.2.1.in-addr.arpa": "4.3.2.1.in-addr.arpa", "xn--0.xn--1": "xn--0.xn--1",
	} {
		if got, ok := hostname(raw); !ok || got != name {
			t.Errorf("%q: %q, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{
		"", ".", "..", "a..b", ".a", "a b", "a\x00b", "a\nb", "a\x7fb", "1.2.3.4", "1.2.3.4.", "127.1", "2130706433", "0x", "0x7f.1", "0x7f000001",
		"::1", "[::1]", "fe80::1%eth0", "2001:db8::1", "a/b", string(make([]byte, 300)),
		"x234567890123456789012345678901234567890123456789012345678901234.example",
	} {
		if got, ok := hostname(raw); ok {
			t.Errorf("%q is a name: %q", raw, got)
		}
	}
}

func TestNameLivesAsLongAsItsTTLAndConnectionsLonger(t *testing.T) {
	t.Parallel()
	table := New(Options{Grace: 10 * time.Second})
	me := owner(1, 1000)
	learn(table, me, dnsProcess, "a.example", web, 0, 60*time.Second)
	window(table, 60*second, 70*second)
	want(t, "within the grace", table.Names(flow(me, web, 1)), "a.example dns process 70s")
	window(table, 71*second, 80*second)
	want(t, "too late", table.Names(flow(me, web, 2)))
	want(t, "made before", table.Names(flow(me, web, 1)), "a.example dns process 80s")
	learn(table, me, dnsProcess, "b.example", web, 85, 60*time.Second)
	window(table, 80*second, 90*second)
	want(t, "made before another name was learned", table.Names(flow(me, web, 1)), "a.example dns process 90s")
	want(t, "new", table.Names(flow(me, web, 3)), "b.example dns process 5s")
	window(table, 100*minute, 101*minute)
	want(t, "an hour later", table.Names(flow(me, web, 1)), "a.example dns process 6060s")
	if c := table.Counters(); c.Addresses != 0 || c.Bytes != 0 || c.AddressesLost != 0 {
		t.Errorf("expired names are held or counted as lost: %+v", c)
	}
}

func TestEvidenceMayComeAWindowLate(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me, resolver := owner(1, 1000), owner(2, 101)
	learn(table, resolver, dnsProcess, "a.example", web, 5, time.Hour)
	window(table, 0, 10*second)
	want(t, "at first", table.Names(flow(me, web, 1)), "a.example neighbour netns 5s")
	learn(table, me, dnsProcess, "mine.example", web, 9, time.Hour) // of the first window, read in the second
	learn(table, me, dnsProcess, "later.example", web, 15, time.Hour)
	window(table, 10*second, 20*second)
	want(t, "afterwards", table.Names(flow(me, web, 1)), "mine.example dns process 11s", "a.example neighbour netns 15s")
	table.Learn(Fact{Owner: me, Source: sni, Name: "sni.example", Address: netip.MustParseAddr(web), Socket: 1, Time: 25 * second})
	window(table, 20*second, 30*second)
	want(t, "its own server name may come at any time", table.Names(flow(me, web, 1)),
		"mine.example dns process 21s", "sni.example sni process 5s", "a.example neighbour netns 25s")
	learn(table, me, dnsProcess, "future.example", web, 60, time.Hour)
	want(t, "the time before it was learned", table.Names(flow(me, web, 9)), "later.example dns process 15s",
		"mine.example dns process 21s", "a.example neighbour netns 25s")
}

func TestLookupCountsWhileItIsUsed(t *testing.T) {
	t.Parallel()
	table := New(Options{Lookup: 10 * time.Minute})
	me := owner(1, 0)
	addresses := []netip.Addr{netip.MustParseAddr(web), netip.MustParseAddr("2606:2800::1"), netip.MustParseAddr("127.0.0.1")}
	table.Lookup(me, "upstream.example", addresses, 0)
	for i := range int64(10) {
		window(table, (9*i+8)*minute, (9*i+9)*minute)
		want(t, "used", table.Names(flow(me, web, uint64(i+1))), fmt.Sprintf("upstream.example getaddrinfo process %ds", (9*i+9)*60))
	}
	want(t, "not used", table.Names(flow(me, "2606:2800::1", 99)))
}

func TestSharedAddressKeepsTheNewestNames(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me := owner(1, 1000)
	for i := range int64(20) {
		table.Learn(Fact{
			Owner: me, Source: dnsProcess, Name: fmt.Sprintf("%d.example", i), Aliases: []string{"cdn.example", "", "1.2.3.4"},
			Address: netip.MustParseAddr(web), TTL: time.Hour, Time: i * second,
		})
	}
	window(table, 0, 20*second)
	got := say(table.Names(flow(me, web, 1)))
	if len(got) != maxGroup || got[0] != "19.example dns process 1s" || got[7] != "12.example dns process 8s" {
		t.Errorf("%q", got)
	}
	table = New(Options{})
	for i := range int64(3) {
		table.Learn(Fact{
			Owner: me, Source: dnsProcess, Name: fmt.Sprintf("%d.example", i), Aliases: []string{"cdn.example"},
			Address: netip.MustParseAddr(web), TTL: time.Hour, Time: i * second,
		})
	}
	window(table, 0, 3*second)
	want(t, "an alias comes after every name that was asked for", table.Names(flow(me, web, 1)),
		"2.example dns process 1s", "1.example dns process 2s", "0.example dns process 3s", "cdn.example dns process 1s")
}

func TestFlooderDoesNotDisplaceTheQuiet(t *testing.T) {
	t.Parallel()
	table := New(Options{Addresses: 800, Bytes: 1 << 20, Connections: 800, KeptBytes: 1 << 20})
	quiet, neighbour, flooder := owner(1, 1000), owner(2, 1001), owner(3, 1001)
	learn(table, quiet, dnsProcess, "quiet.example", web, 0, time.Hour)
	learn(table, neighbour, dnsProcess, "neighbour.example", web, 0, time.Hour)
	window(table, 0, second)
	table.Names(flow(quiet, web, 1))
	table.Names(flow(neighbour, web, 2))
	for i := range uint32(20000) {
		address := netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		learn(table, flooder, dnsProcess, fmt.Sprintf("%d.flood.example", i), address, 0, time.Hour)
		table.Names(flow(flooder, address, uint64(100+i)))
	}
	c := table.Counters()
	if c.Addresses > 102 || c.Connections > 102 || c.AddressesLost < 39000 || c.ConnectionsLost < 19800 {
		t.Errorf("%+v", c)
	}
	want(t, "another user", table.Names(flow(quiet, web, 3)), "quiet.example dns process 1s")
	want(t, "another process of the same user", table.Names(flow(neighbour, web, 4)), "neighbour.example dns process 1s")
	window(table, 10*60*minute, 10*60*minute+second)
	want(t, "a connection of another user", table.Names(flow(quiet, web, 1)), "quiet.example dns process 36001s")
	want(t, "a connection of another process", table.Names(flow(neighbour, web, 2)), "neighbour.example dns process 36001s")
}

func TestBoundsHoldAgainstManyUsers(t *testing.T) {
	t.Parallel()
	table := New(Options{Addresses: 1000, Bytes: 100_000, Connections: 500, KeptBytes: 50_000})
	window(table, 0, second)
	for i := range uint32(20000) {
		address := netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		o := owner(i, 100000+i%500)
		learn(table, o, dnsProcess, fmt.Sprintf("%d.flood.example", i), address, 0, time.Hour)
		table.Names(flow(o, address, uint64(i+1)))
	}
	c := table.Counters()
	if c.Addresses > 1000 || c.Bytes > 100_000 || c.Connections > 500 || c.KeptBytes > 50_000 {
		t.Errorf("%+v", c)
	}
	window(table, 100*60*minute, 101*60*minute)
	if c := table.Counters(); c.Addresses != 0 || c.Bytes != 0 || c.Connections != 0 || len(table.places.users) != 0 || len(table.places.processes) != 0 {
		t.Errorf("after everything has expired: %+v, %d users", c, len(table.places.users))
	}
}

func TestBytesAreAboutWhatIsHeld(t *testing.T) {
	table := New(Options{Addresses: 1 << 20, Bytes: 1 << 30})
	before := heap()
	for i := range uint32(20000) {
		address := netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		learn(table, owner(i%50, 1000), dnsProcess, fmt.Sprintf("%d.some.name.of.usual.length.example", i), address, 0, time.Hour)
	}
	held, claimed := heap()-before, table.Counters().Bytes
	if float64(held) > 1.3*float64(claimed) || float64(held) < 0.5*float64(claimed) {
		t.Errorf("%d bytes held, %d counted", held, claimed)
	}
	runtime.KeepAlive(table)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTableFromManyGoroutines(t *testing.T) {
	t.Parallel()
	table := New(Options{Addresses: 100})
	var group sync.WaitGroup
	for g := range uint32(4) {
		group.Go(func() {
			o := owner(g+1, 1000+g)
			for i := range int64(500) {
				table.Observe(Payload{
					Process: o.Process, UID: o.UID, NetNS: 1, Socket: uint64(g + 1), Protocol: 6, Data: []byte{22, 3, 1, 0, 200, 1},
					Remote: netip.MustParseAddrPort(web + ":443"), Time: i * second,
				})
				learn(table, o, dnsProcess, fmt.Sprintf("%d.example", i), web, i, time.Minute)
				table.Names(flow(o, web, uint64(g+1)))
				window(table, i*second, (i+1)*second)
				table.Counters()
			}
		})
	}
	group.Wait()
	if c := table.Counters(); c.Facts != 2000 || c.Payloads != 2000 {
		t.Errorf("%+v", c)
	}
}
