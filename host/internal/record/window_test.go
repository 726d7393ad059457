package record

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestWindowSumsWhatIsAlikeAfterTheSwitches(t *testing.T) {
	t.Parallel()
	in := []capture.Flow{
		tcp(2, 7, "10.0.0.1:5001", "192.0.2.1:443", 10, 100),
		tcp(2, 8, "10.0.0.1:5002", "192.0.2.1:443", 20, 200),
		tcp(2, 9, "10.0.0.1:5002", "192.0.2.1:443", 1, 2), // the port was used again
		tcp(2, 10, "10.0.0.1:5003", "192.0.2.2:443", 40, 400),
		tcp(1, 11, "10.0.0.1:5004", "192.0.2.1:443", 80, 800),
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"all", func(*Options) {}, []string{
			"1 10.0.0.1:5004>192.0.2.1:443 80/800 socket 11",
			"2 10.0.0.1:5001>192.0.2.1:443 10/100 socket 7",
			"2 10.0.0.1:5002>192.0.2.1:443 21/202",
			"2 10.0.0.1:5003>192.0.2.2:443 40/400 socket 10",
		}},
		{"no ports", func(o *Options) { o.Ports = false }, []string{
			"1 10.0.0.1:0>192.0.2.1:0 80/800 socket 11",
			"2 10.0.0.1:0>192.0.2.1:0 31/302",
			"2 10.0.0.1:0>192.0.2.2:0 40/400 socket 10",
		}},
		{"no addresses", func(o *Options) { o.Addresses = false }, []string{
			"1 10.0.0.1:5004>-:443 80/800 socket 11",
			"2 10.0.0.1:5001>-:443 10/100 socket 7",
			"2 10.0.0.1:5002>-:443 21/202",
			"2 10.0.0.1:5003>-:443 40/400 socket 10",
		}},
		{"neither", func(o *Options) { o.Addresses, o.Ports = false, false }, []string{
			"1 10.0.0.1:0>-:0 80/800 socket 11",
			"2 10.0.0.1:0>-:0 71/702",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := everything()
			c.change(&o)
			for range 3 { // in any order
				flows := slices.Clone(in)
				rand.Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
				got := lineTexts(newHost(t, o).Window(window(flows...), whoOf()))
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestWindowKeepsApartWhatDiffersInAnyRecordedField(t *testing.T) {
	t.Parallel()
	base := tcp(1, 1, "10.0.0.1:5001", "192.0.2.1:443", 1, 1)
	for name, change := range map[string]func(*capture.Flow){
		"process":   func(f *capture.Flow) { f.Process.ExecID++ },
		"layer":     func(f *capture.Flow) { f.Layer = wire.Layer_LAYER_PACKET },
		"protocol":  func(f *capture.Flow) { f.Protocol = 17 },
		"mapped":    func(f *capture.Flow) { f.Mapped = true },
		"direction": func(f *capture.Flow) { f.Direction = wire.Direction_DIRECTION_IN },
		"result":    func(f *capture.Flow) { f.Result = wire.Result_RESULT_REFUSED },
		"netns":     func(f *capture.Flow) { f.NetNS++ },
		"cgroup":    func(f *capture.Flow) { f.CgroupID++ },
		"user":      func(f *capture.Flow) { f.UID++ },
		"existing":  func(f *capture.Flow) { f.Existing = true },
		"counting":  func(f *capture.Flow) { f.Counting = wire.Counting_COUNTING_ESTIMATE },
		"peer":      func(f *capture.Flow) { f.Peer = wire.Peer_PEER_INFERRED },
		"ifindex":   func(f *capture.Flow) { f.Ifindex = 3 },
	} {
		other := base
		change(&other)
		if got := flows(newHost(t, everything()).Window(window(base, other), whoOf())); len(got) != 2 {
			t.Errorf("%s: %d rows", name, len(got))
		}
	}
}

func TestEqualProcessesMergeEvenIfIdentityMadesTwoMessages(t *testing.T) {
	t.Parallel()
	a, b := tcp(1, 1, "10.0.0.1:5001", "192.0.2.1:443", 1, 1), tcp(1, 2, "10.0.0.1:5001", "192.0.2.1:443", 1, 1)
	who := func(*capture.Flow) identity.Lineage {
		return identity.Lineage{Process: process(1, 0, "/bin/a", "a", "a"), Parent: process(9, 0, "/bin/b", "b", "b")}
	}
	if got := flows(newHost(t, everything()).Window(window(a, b), who)); len(got) != 1 || got[0].Sent != 2 {
		t.Errorf("got %v", got)
	}
}

func TestWindowFillsTheWire(t *testing.T) {
	t.Parallel()
	f := tcp(1, 7, "10.0.0.1:5001", "192.0.2.1:443", 1, 2)
	f.Family, f.Mapped, f.Connects, f.Accepts, f.Failures, f.Listens = 10, true, 3, 4, 5, 6
	link := tcp(2, 8, "[fe80::1%3]:1", "[fe80::2%3]:2", 0, 0)
	link.Family = 10
	icmp := tcp(3, 9, "10.0.0.1:0", "192.0.2.1:0", 9, 9)
	icmp.Protocol = 1
	overflow := capture.Flow{Process: capture.Key{Tgid: 4}, Protocol: 17, Sent: 5, Candidates: []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.9:2"), netip.MustParseAddrPort("192.0.2.9:1"), netip.MustParseAddrPort("192.0.2.9:2")}}
	records := newHost(t, everything()).Window(window(f, link, icmp, overflow), whoOf())
	got := flows(records)
	w := got[0].Window
	if w.Start != 1e9 || w.End != 11e9 || w.StartBoot != 1e8 || w.EndBoot != 10_100_000_000 || w.ZoneOffset != 3600 {
		t.Errorf("window %v", w)
	}
	if g := got[0]; g.Family != 2 || !g.Local.Mapped || !g.Remote.Mapped || len(g.Remote.Ip) != 4 ||
		g.Connects != 3 || g.Accepts != 4 || g.Failures != 5 || g.Listens != 6 {
		t.Errorf("mapped %v", g)
	}
	if g := got[1]; g.Local.ScopeId != 3 || len(g.Local.Ip) != 16 || g.Family != 10 {
		t.Errorf("link-local %v", g)
	}
	if g := got[2]; g.Local.Port != -1 || g.Remote.Port != -1 {
		t.Errorf("a protocol without ports: %v", g)
	}
	if g := got[3]; g.Remote.Port != -1 || g.Remote.Ip != nil || len(g.Candidates) != 2 || g.Candidates[0].Port != 1 {
		t.Errorf("no peer: %v", g)
	}
}

func TestNoCommandsLeavesNoneAnywhere(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Commands = false
	p := process(1, 0, "/bin/a", "a", "a\x00secret")
	p.ClaimedCommandLine = &wire.Text{Value: []byte("secret")}
	l := identity.Lineage{Process: p, Parent: process(2, 0, "/bin/b", "b", "secret"), Grandparent: process(3, 0, "/bin/c", "c", "secret")}
	h := newHost(t, o)
	records := h.Window(window(tcp(1, 1, "10.0.0.1:1", "10.0.0.2:2", 1, 1)), whoOf(l))
	records = append(records, h.Exec(&capture.Process{}, l))
	for _, r := range records {
		if text := r.String(); strings.Contains(text, "secret") || strings.Contains(text, "command_line") {
			t.Error(text)
		}
	}
	if string(p.CommandLine.Value) != "a\x00secret" {
		t.Error("the shared message was changed")
	}
}

func TestCommandLinesAreRedactedInEveryRecord(t *testing.T) {
	t.Parallel()
	l := identity.Lineage{
		Process: process(1, 0, "/bin/a", "a", "a\x00--password=hunter2"),
		Parent:  process(2, 0, "/bin/b", "b", "b\x00https://u:hunter2@h"), Grandparent: process(3, 0, "/bin/c", "c", "c\x00--token\x00hunter2"),
	}
	h := newHost(t, everything())
	records := h.Window(window(tcp(1, 1, "10.0.0.1:1", "10.0.0.2:2", 1, 1)), whoOf(l))
	records = append(records, h.Exec(&capture.Process{}, l))
	if len(records) != 4 { // a flow, two notices, an execution
		t.Fatalf("%d records", len(records))
	}
	for _, r := range records {
		if text := r.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "<redacted:") {
			t.Error(text)
		}
	}
}

func TestAddressesOffEmptiesNamesAndCandidatesToo(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Addresses = false
	o.Domains = func(*capture.Flow) []*wire.Domain { return []*wire.Domain{domain("www.example.org", 1)} }
	f := tcp(1, 1, "10.0.0.1:1", "192.0.2.2:2", 1, 1)
	f.Candidates = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:2")}
	got := flows(newHost(t, o).Window(window(f), whoOf()))[0]
	if got.Domain != nil || got.Domains != nil || got.Candidates != nil || got.Remote.Ip != nil || got.Local.Ip == nil {
		t.Errorf("got %v", got)
	}
}

func domain(name string, source wire.NameSource) *wire.Domain {
	return &wire.Domain{Name: &wire.Text{Value: []byte(name)}, Source: source}
}

func TestTheDomainIsTheBestName(t *testing.T) {
	t.Parallel()
	old := domain("old", wire.NameSource_NAME_SOURCE_SNI)
	old.Age = 5
	for _, c := range []struct {
		in   []*wire.Domain
		want string
	}{
		{nil, ""},
		{[]*wire.Domain{domain("ptr", wire.NameSource_NAME_SOURCE_PTR), domain("outer", wire.NameSource_NAME_SOURCE_SNI_OUTER)}, ""},
		{[]*wire.Domain{domain("ns", wire.NameSource_NAME_SOURCE_DNS_NAMESPACE), domain("sni", wire.NameSource_NAME_SOURCE_SNI)}, "sni"},
		{[]*wire.Domain{domain("own", wire.NameSource_NAME_SOURCE_GETADDRINFO), domain("dns", wire.NameSource_NAME_SOURCE_DNS_PROCESS)}, "own"},
		{[]*wire.Domain{old, domain("young", wire.NameSource_NAME_SOURCE_SNI)}, "young"},
	} {
		if got := string(bestDomain(c.in).GetName().GetValue()); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestIgnoreDropsTheRowOnly(t *testing.T) {
	t.Parallel()
	flow := tcp(1, 1, "192.168.1.5:5001", "198.51.100.7:443", 12, 30)
	udp := flow
	udp.Protocol, udp.Remote = 17, netip.MustParseAddrPort("[2001:db8::5%2]:53")
	icmp := flow
	icmp.Protocol = 1
	me := identity.Lineage{Process: hashed(process(1, 0, "/bin/a", "a", "a"), 0xaa), Parent: hashed(process(2, 0, "/bin/b", "b", "b"), 0xbb)}
	for _, c := range []struct {
		name   string
		ignore Ignore
		flow   capture.Flow
		want   bool
	}{
		{"hash", Ignore{Hashes: [][32]byte{[32]byte(me.Process.Executable.Sha256)}}, flow, true},
		{"hash of the parent", Ignore{Hashes: [][32]byte{[32]byte(me.Parent.Executable.Sha256)}}, flow, false},
		{"remote subnet", Ignore{Subnets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, flow, true},
		{"local subnet", Ignore{Subnets: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}}, flow, false},
		{"mapped subnet", Ignore{Subnets: []netip.Prefix{netip.MustParsePrefix("::ffff:198.51.100.0/120")}}, flow, true},
		{"address with a zone", Ignore{Subnets: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}}, udp, true},
		{"remote port", Ignore{Ports: []uint16{443}}, flow, true},
		{"local port", Ignore{Ports: []uint16{5001}}, flow, true},
		{"other port", Ignore{Ports: []uint16{80, 0}}, flow, false},
		{"port of what has none", Ignore{Ports: []uint16{443}}, icmp, false},
		{"domain", Ignore{Domains: []string{"org.example"}}, flow, true},
		{"domain itself", Ignore{Domains: []string{"ORG.Example.www."}}, flow, true},
		{"half a label", Ignore{Domains: []string{"org.exam"}}, flow, false},
		{"domain the right way round", Ignore{Domains: []string{"example.org"}}, flow, false},
		{"empty domain", Ignore{Domains: []string{""}}, flow, false},
		{"nothing", Ignore{}, flow, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := everything()
			o.Addresses, o.Ports, o.Ignore = false, false, c.ignore // it tests what was, not what is recorded
			o.Domains = func(*capture.Flow) []*wire.Domain {
				return []*wire.Domain{domain("www.Example.org.", wire.NameSource_NAME_SOURCE_SNI)}
			}
			h := newHost(t, o)
			records := h.Window(window(c.flow), whoOf(me))
			if ignored := len(flows(records)) == 0; ignored != c.want {
				t.Errorf("ignored: %v, want %v", ignored, c.want)
			}
			if len(notes(records)) != 2 {
				t.Errorf("notices: %q", notes(records))
			}
			if h.flush(); strings.Count(h.home.text(exeLog), "\n") != 4 {
				t.Errorf("exe.log: %q", h.home.text(exeLog))
			}
			if counters := h.Counters(); c.want && (counters.IgnoredSent != 12 || counters.IgnoredReceived != 30 || counters.IgnoredFlows != 1) {
				t.Errorf("counters: %+v", counters)
			}
		})
	}
}

func TestSortingAddressesMakesNoRow(t *testing.T) {
	t.Parallel()
	probe := tcp(1, 1, "10.0.0.1:5001", "192.0.2.1:0", 0, 0)
	probe.Protocol, probe.Sends, probe.Receives, probe.Connects = 17, 0, 0, 1
	sent := probe
	sent.Sent, sent.Sends = 1, 1
	h := newHost(t, everything())
	if got := flows(h.Window(window(probe, sent), whoOf())); len(got) != 1 || got[0].Sent != 1 {
		t.Errorf("got %v", got)
	}
	if h.Counters().PortZeroFlows != 1 {
		t.Errorf("counters: %+v", h.Counters())
	}
}

// Whatever is switched, ignored or folded: no byte is lost or counted twice, in no layer.
func TestSumsOfRecordsAreSumsOfFlowsLessIgnored(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		o := Options{Addresses: seed&1 > 0, Commands: seed&2 > 0, Ports: seed&4 > 0, Rows: []int{1, 8, 50, 400, 0}[seed%5]}
		if seed&8 > 0 {
			o.Ignore = Ignore{Ports: []uint16{3}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")}}
		}
		w, want := window(), map[wire.Layer][3]uint64{}
		var ignored [3]uint64
		for range random.IntN(2000) {
			f := randomFlow(random)
			w.Flows = append(w.Flows, f)
			sum := [3]uint64{f.Sent, f.Received, f.Sends + f.Receives}
			if seed&8 > 0 && (f.Local.Port() == 3 || f.Remote.Port() == 3 || f.Remote.Addr().String() == "10.0.0.2") {
				ignored = plus(ignored, sum)
				continue
			}
			want[f.Layer] = plus(want[f.Layer], sum)
		}
		h := newHost(t, o)
		got := map[wire.Layer][3]uint64{}
		rows := flows(h.Window(w, whoOf()))
		for _, f := range rows {
			got[f.Layer] = plus(got[f.Layer], [3]uint64{f.Sent, f.Received, f.Sends + f.Receives})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		c := h.Counters()
		if c.IgnoredSent != ignored[0] || c.IgnoredReceived != ignored[1] {
			t.Fatalf("seed %d: ignored %v, counters %+v", seed, ignored, c)
		}
		if limit := h.options.withDefaults().Rows + 2; len(rows) > limit {
			t.Fatalf("seed %d: %d rows, at most %d", seed, len(rows), limit)
		}
	}
}

func plus(a, b [3]uint64) [3]uint64 { return [3]uint64{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }

func randomFlow(random *rand.Rand) capture.Flow {
	end := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(20))}), uint16(random.IntN(30)+1))
	}
	f := capture.Flow{
		Process: capture.Key{Tgid: random.Uint32N(20)}, Socket: random.Uint64N(50), Protocol: []uint16{6, 17}[random.IntN(2)],
		Layer: wire.Layer(1 + random.IntN(2)), Local: end(), Remote: end(), Peer: wire.Peer_PEER_EXACT,
		Sent: random.Uint64N(1e6), Received: random.Uint64N(1e6), Sends: 1 + random.Uint64N(9), Receives: random.Uint64N(9),
	}
	f.UID = f.Process.Tgid % 5
	return f
}

func BenchmarkWindowOf10000Flows(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	w, list := window(), make([]identity.Lineage, 400)
	shell := process(9999, 1000, "/bin/bash", "bash", "bash")
	for i := range list {
		p := hashed(process(uint32(i), 1000, fmt.Sprintf("/usr/bin/program-%d", i), "program", "program\x00--port=443\x00https://example.org/"), 1)
		list[i] = identity.Lineage{Process: p, Parent: shell}
	}
	for range 10000 {
		f := randomFlow(random)
		f.Process.Tgid = random.Uint32N(400)
		w.Flows = append(w.Flows, f)
	}
	h := newHost(&testing.T{}, everything())
	b.ReportAllocs()
	for b.Loop() {
		h.Window(w, func(f *capture.Flow) identity.Lineage { return list[f.Process.Tgid] })
	}
}

// BenchmarkWindowOf10000Programs is about a user who never runs the same program twice.
func BenchmarkWindowOf10000Programs(b *testing.B) {
	h, number := newHost(&testing.T{}, everything()), 0
	list, w := make([]identity.Lineage, 10000), window()
	for i := range list {
		w.Flows = append(w.Flows, capture.Flow{Process: capture.Key{Tgid: uint32(i)}, Layer: wire.Layer_LAYER_SOCKET})
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range list {
			number++
			list[i] = alone(hashed(process(uint32(i), 1000, fmt.Sprintf("/tmp/go-build%d/b001/x.test", number), "x.test", ""), 1))
		}
		h.Window(w, func(f *capture.Flow) identity.Lineage { return list[f.Process.Tgid] })
	}
}
