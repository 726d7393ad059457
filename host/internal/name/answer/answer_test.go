package answer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func addresses(ttl time.Duration, ips ...string) []Address {
	var out []Address
	for _, ip := range ips {
		out = append(out, Address{netip.MustParseAddr(ip), ttl})
	}
	return out
}

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestNameIsTheOneThatWasAskedFor(t *testing.T) {
	t.Parallel()
	hint4 := dnsmessage.SVCParam{Key: dnsmessage.SVCParamIPv4Hint, Value: []byte{192, 0, 2, 1, 192, 0, 2, 2}}
	hint6 := dnsmessage.SVCParam{Key: dnsmessage.SVCParamIPv6Hint, Value: netip.MustParseAddr("2001:db8::1").AsSlice()}
	service := dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName("."), Params: []dnsmessage.SVCParam{hint4, hint6}}
	for name, c := range map[string]struct {
		reply *reply
		want  Answer
	}{
		"addresses": {
			newReply(t, "Example.ORG.", dnsmessage.TypeA).address("eXample.org.", 60, "192.0.2.1").address("example.org.", 60, "192.0.2.2"),
			Answer{Name: "example.org", Addresses: addresses(time.Minute, "192.0.2.1", "192.0.2.2")},
		},
		"an IPv6 address": {
			newReply(t, "example.org.", dnsmessage.TypeAAAA).address("example.org.", 1, "2001:db8::7"),
			Answer{Name: "example.org", Addresses: addresses(time.Second, "2001:db8::7")},
		},
		"a mapped address is an IPv4 one": {
			newReply(t, "example.org.", dnsmessage.TypeAAAA).address("example.org.", 1, "::ffff:192.0.2.9"),
			Answer{Name: "example.org", Addresses: addresses(time.Second, "192.0.2.9")},
		},
		"a chain in any order, with its shortest life": {
			newReply(t, "www.example.org.", dnsmessage.TypeA).address("edge.cdn.example.", 300, "192.0.2.1").
				alias("lb.example.net.", 20, "edge.cdn.example.").alias("www.example.org.", 600, "lb.example.net."),
			Answer{
				Name: "www.example.org", Aliases: []string{"lb.example.net", "edge.cdn.example"},
				Addresses: addresses(20*time.Second, "192.0.2.1"),
			},
		},
		"records that nobody asked for": {
			newReply(t, "example.org.", dnsmessage.TypeA).address("bank.example.", 60, "192.0.2.66").address("example.org.", 60, "192.0.2.1"),
			Answer{Name: "example.org", Addresses: addresses(time.Minute, "192.0.2.1")},
		},
		"a service with hints": {
			newReply(t, "_8443._https.example.org.", dnsmessage.TypeHTTPS).
				add("_8443._https.example.org.", 60, &dnsmessage.HTTPSResource{SVCBResource: service}),
			Answer{Name: "example.org", Addresses: addresses(time.Minute, "192.0.2.1", "192.0.2.2", "2001:db8::1")},
		},
		"a life without sense": {
			newReply(t, "example.org.", dnsmessage.TypeA).address("example.org.", 1<<31, "192.0.2.1"),
			Answer{Name: "example.org", Addresses: addresses(0, "192.0.2.1")},
		},
	} {
		got, err := Parse(c.reply.bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got, compareAddr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMessagesThatSayNothing(t *testing.T) {
	t.Parallel()
	query := newReply(t, "example.org.", dnsmessage.TypeA).address("example.org.", 60, "192.0.2.1")
	query.header.Response = false
	refused := newReply(t, "example.org.", dnsmessage.TypeA).address("example.org.", 60, "192.0.2.1")
	refused.header.RCode = dnsmessage.RCodeNameError
	chaos := newReply(t, "version.bind.", dnsmessage.TypeA).address("version.bind.", 60, "192.0.2.1")
	chaos.question.Class = dnsmessage.ClassCHAOS
	for name, r := range map[string]*reply{
		"a query": query, "no such name": refused, "another class": chaos,
		"no answer":    newReply(t, "example.org.", dnsmessage.TypeA),
		"another type": newReply(t, "1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR).add("1.2.0.192.in-addr.arpa.", 60, &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("example.org.")}),
		"an alias loop": newReply(t, "a.example.", dnsmessage.TypeA).alias("a.example.", 60, "b.example.").alias("b.example.", 60, "a.example.").
			address("c.example.", 60, "192.0.2.1"),
		"an alias without an address": newReply(t, "a.example.", dnsmessage.TypeA).alias("a.example.", 60, "b.example."),
	} {
		if a, err := Parse(r.bytes()); !errors.Is(err, ErrNone) || a.Name != "" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// raw is a message by hand: a header with counts, then the rest.
func raw(questions, answers uint16, rest ...string) []byte {
	m := []byte{0, 7, 0x81, 0x80}
	m = binary.BigEndian.AppendUint16(m, questions)
	m = binary.BigEndian.AppendUint16(m, answers)
	return append(append(m, 0, 0, 0, 0), strings.Join(rest, "")...)
}

func TestHostileMessagesGiveAnErrorAndTakeNoMemory(t *testing.T) {
	t.Parallel()
	const question = "\x01a\x00\x00\x01\x00\x01"
	const address = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xc0\x00\x02\x01"
	if a, err := Parse(raw(1, 1, question, address)); err != nil || a.Name != "a" {
		t.Fatalf("the good one: %+v, %v", a, err)
	}
	for name, m := range map[string][]byte{
		"empty":                     {},
		"half a header":             raw(1, 1)[:7],
		"a name that is itself":     raw(1, 1, "\xc0\x0c\x00\x01\x00\x01", address),
		"two names as a loop":       raw(1, 1, "\xc0\x0e\xc0\x0c\x00\x01\x00\x01", address),
		"a pointer out of it":       raw(1, 1, question, "\xff\xff\x00\x01\x00\x01\x00\x00\x00\x09\x00\x04\xc0\x00\x02\x01"),
		"a reserved label":          raw(1, 1, "\x80a\x00\x00\x01\x00\x01", address),
		"a dot in a label":          raw(1, 1, "\x03a.b\x00\x00\x01\x00\x01", address),
		"a name too long":           raw(1, 1, strings.Repeat("\x3f"+strings.Repeat("x", 63), 5), "\x00\x00\x01\x00\x01", address),
		"more answers than bytes":   raw(1, 65535, question, address),
		"two questions":             raw(2, 1, question, question, address),
		"an address of three bytes": raw(1, 1, question, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\x00\x03\xc0\x00\x02"),
		"a length over the end":     raw(1, 1, question, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x09\xff\xff\xc0\x00\x02\x01"),
		"far too many addresses":    raw(1, 5000, question, strings.Repeat(address, 5000)),
		"far too many other things": raw(1, 5000, question, strings.Repeat("\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x09\x00\x00", 5000)),
	} {
		a, err := Parse(m)
		if err == nil || errors.Is(err, ErrNone) || a.Name != "" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	whole := raw(1, 1, question, address)
	for n := range whole {
		if _, err := Parse(whole[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(whole))
		}
	}
}

// framed puts the length before a message.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func TestStreamOfMessagesInPieces(t *testing.T) {
	t.Parallel()
	names := []string{"one.example.", "two.example.", "three.example."}
	var stream []byte
	for _, n := range names {
		stream = append(stream, framed(newReply(t, n, dnsmessage.TypeA).address(n, 60, "192.0.2.1").bytes())...)
	}
	for size := 1; size <= len(stream); size++ {
		s := NewStream()
		var got []string
		for at := 0; at < len(stream); at += size {
			piece := stream[at:min(at+size, len(stream))]
			if err := s.Add(uint64(at), piece, func(a Answer) { got = append(got, a.Name+".") }); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(names, got); diff != "" {
			t.Fatalf("pieces of %d bytes (-want +got):\n%s", size, diff)
		}
	}
}

func TestStreamGoesOnAfterWhatWasCutOff(t *testing.T) {
	t.Parallel()
	big := newReply(t, "big.example.", dnsmessage.TypeA).address("big.example.", 60, "192.0.2.1").
		add("big.example.", 60, &dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 200), strings.Repeat("y", 200)}})
	first := framed(big.bytes())
	broken := framed([]byte("no message at all"))
	last := framed(newReply(t, "last.example.", dnsmessage.TypeA).address("last.example.", 60, "192.0.2.2").bytes())
	s := NewStream()
	var got []string
	each := func(a Answer) { got = append(got, a.Name) }
	if err := s.Add(0, first[:300], each); err != nil || got != nil {
		t.Fatalf("half a message: %v, %v", got, err)
	}
	err := s.Add(uint64(len(first)), append(bytes.Clone(broken), last...), each)
	if diff := cmp.Diff([]string{"last.example"}, got); diff != "" || err == nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := s.Add(1<<40, []byte("x"), each); err == nil {
		t.Error("a piece from far away is kept")
	}
	if s.Size() > 2*maxStream {
		t.Errorf("holds %d bytes", s.Size())
	}
}

func FuzzDNS(f *testing.F) {
	f.Add(newReply(f, "www.example.org.", dnsmessage.TypeA).alias("www.example.org.", 9, "b.example.").address("b.example.", 9, "192.0.2.1").bytes(), uint16(3))
	f.Add(raw(1, 65535, "\xc0\x0c\x00\x01\x00\x01"), uint16(1))
	hint := dnsmessage.SVCParam{Key: dnsmessage.SVCParamIPv4Hint, Value: []byte{192, 0, 2, 1}}
	f.Add(newReply(f, "a.example.", dnsmessage.TypeHTTPS).add("a.example.", 9, &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{
		Priority: 1, Target: dnsmessage.MustNewName("."), Params: []dnsmessage.SVCParam{hint}}}).bytes(), uint16(40))
	f.Fuzz(func(t *testing.T, message []byte, cut uint16) {
		a, err := Parse(message)
		if err == nil && (a.Name == "" || len(a.Addresses) == 0) {
			t.Errorf("no error and %+v", a)
		}
		if len(a.Aliases) > maxChain || len(a.Addresses) > (maxChain+1)*3*maxFacts {
			t.Errorf("%d aliases, %d addresses", len(a.Aliases), len(a.Addresses))
		}
		if len(message) > 0xffff {
			return
		}
		// The same as a stream in two pieces gives the same.
		s, stream, found := NewStream(), framed(message), 0
		at := min(int(cut), len(stream))
		_ = s.Add(0, stream[:at], func(Answer) { found++ })
		_ = s.Add(uint64(at), stream[at:], func(Answer) { found++ })
		if (err == nil) != (found == 1) {
			t.Errorf("alone: %v, in a stream: %d", err, found)
		}
	})
}
