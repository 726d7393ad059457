package name

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// reply is the answer to a question for the addresses of a name, over UDP.
func reply(t testing.TB, id uint16, name string, ttl uint32, addresses ...string) []byte {
	t.Helper()
	question := dnsmessage.MustNewName(name + ".")
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true},
		Questions: []dnsmessage.Question{{Name: question, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	cname := dnsmessage.MustNewName("cdn.example.")
	m.Answers = append(m.Answers, dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: question, Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   &dnsmessage.CNAMEResource{CNAME: cname},
	})
	for _, a := range addresses {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: cname, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
		})
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// payload is one of an owner, received from a DNS server.
func payload(o Owner, protocol uint16, socket uint64, server string, data []byte) Payload {
	return Payload{
		Process: o.Process, UID: o.UID, NetNS: o.NetNS, Socket: socket, Protocol: protocol, Received: true, Data: data,
		Remote: netip.MustParseAddrPort(server),
	}
}

// sent is one of an owner, sent to a server.
func sent(o Owner, protocol uint16, socket uint64, server string, offset int, data []byte) Payload {
	p := payload(o, protocol, socket, server, data)
	p.Received, p.Offset = false, uint64(offset)
	return p
}

func clientHello(t testing.TB, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Client(client, &tls.Config{ServerName: name}).Handshake() }()
	if err := server.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 5)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	record := append(header, make([]byte, binary.BigEndian.Uint16(header[3:]))...)
	if _, err := io.ReadFull(server, record[5:]); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	return record
}

func TestStubResolverAndItsClient(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	client, other, resolver := owner(1, 1000), owner(2, 1001), owner(3, 101)
	// The outer leg: the resolver asks for somebody.
	table.Observe(payload(resolver, unix.IPPROTO_UDP, 1, "9.9.9.9:53", reply(t, 1, "a.example", 60, web)))
	want(t, "the client before it has its answer", table.Names(flow(client, web, 10)),
		"a.example neighbour netns 0s", "cdn.example neighbour netns 0s")
	// The loopback leg, as the client receives it and as the resolver sends it.
	answer := reply(t, 2, "b.example", 60, web)
	table.Observe(payload(client, unix.IPPROTO_UDP, 2, "127.0.0.53:53", answer))
	table.Observe(sent(resolver, unix.IPPROTO_UDP, 3, "127.0.0.1:40000", 0, answer))
	want(t, "the client", table.Names(flow(client, web, 11)),
		"b.example dns process 0s", "cdn.example dns process 0s", "a.example neighbour netns 0s")
	want(t, "another user", table.Names(flow(other, web, 12)), "a.example neighbour netns 0s", "cdn.example neighbour netns 0s")
}

func TestAnswersOverTCP(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me := owner(1, 1000)
	var stream []byte
	for _, n := range []string{"a.example", "b.example"} {
		m := reply(t, 1, n, 60, web)
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(m))), m...)
	}
	for at := 0; at < len(stream); at += 40 { // over the seam of the two messages
		p := payload(me, unix.IPPROTO_TCP, 5, "9.9.9.9:53", stream[at:min(at+40, len(stream))])
		p.Offset, p.Time = uint64(at), int64(at)
		table.Observe(p)
	}
	names := table.Names(flow(me, web, 1))
	if len(names) != 3 || string(names[0].GetName().GetValue()) != "b.example" {
		t.Errorf("%q", say(names))
	}
	late := payload(me, unix.IPPROTO_TCP, 6, "9.9.9.9:53", stream)
	late.Offset = 100 // of a stream whose beginning was not seen
	table.Observe(late)
	if c := table.Counters(); c.Answers != 2 || c.Streams != 1 || c.Malformed != 0 {
		t.Errorf("%+v", c)
	}
}

func TestServerNameOfTLS(t *testing.T) {
	t.Parallel()
	me := owner(1, 1000)
	record := clientHello(t, "www.example.org")
	for _, size := range []int{len(record), 700, 100, 1} {
		table := New(Options{})
		for at := 0; at < len(record); at += size {
			table.Observe(sent(me, unix.IPPROTO_TCP, 7, web+":443", at, record[at:min(at+size, len(record))]))
		}
		want(t, "the connection", table.Names(flow(me, web, 7)), "www.example.org sni process 0s")
		want(t, "another connection", table.Names(flow(me, web, 8)))
		if c := table.Counters(); c.Streams != 0 {
			t.Errorf("pieces of %d: streams are left: %+v", size, c)
		}
	}
	table := New(Options{})
	table.Observe(sent(me, unix.IPPROTO_MPTCP, 7, web+":8443", 0, record))
	want(t, "MPTCP on another port", table.Names(flow(me, web, 7)), "www.example.org sni process 0s")
	received := sent(me, unix.IPPROTO_TCP, 9, web+":50000", 0, record)
	received.Received = true
	table.Observe(received)
	want(t, "a client of ours", table.Names(flow(me, web, 9)))
	table.Observe(sent(me, unix.IPPROTO_TCP, 10, web+":3128", 80, record)) // behind a CONNECT to a proxy
	want(t, "a proxy", table.Names(flow(me, web, 10)))
}

func TestHelloThatIsCutOffIsNoSingleName(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me := owner(1, 1000)
	record := clientHello(t, "www.example.org")
	table.Observe(sent(me, unix.IPPROTO_TCP, 7, web+":443", 0, record[:len(record)-10]))
	names := table.Names(flow(me, web, 7))
	want(t, "what may have an encrypted hello", names, "www.example.org outer process 0s")
	table.Observe(sent(me, unix.IPPROTO_TCP, 7, web+":443", len(record)-10, record[len(record)-10:]))
	want(t, "complete", table.Names(flow(me, web, 7)), "www.example.org sni process 0s")
}

func TestAddressesAsServerNamesAreRefused(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me := owner(1, 1000)
	record := clientHello(t, "www.example.org")
	copy(record[strings.Index(string(record), "www.example.org"):], "100.200.111.222")
	table.Observe(sent(me, unix.IPPROTO_TCP, 7, web+":443", 0, record))
	want(t, "an address", table.Names(flow(me, web, 7)))
	if c := table.Counters(); c.Refused != 1 || c.Hellos != 1 {
		t.Errorf("%+v", c)
	}
}

// initial is the packet of RFC 9001, appendix A.2.
func initial(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("hello/testdata/rfc9001-a2-client-initial.hex")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestServerNameOfQUIC(t *testing.T) {
	t.Parallel()
	table := New(Options{StreamAge: 30 * time.Second})
	me := owner(1, 1000)
	table.Observe(sent(me, unix.IPPROTO_UDP, 7, web+":443", 0, initial(t)))
	want(t, "the peer", table.Names(flow(me, web, 7)), "example.com sni process 0s")
	want(t, "another peer of the socket", table.Names(flow(me, "93.184.215.15", 7)))
	if c := table.Counters(); c.Streams != 1 {
		t.Errorf("%+v", c)
	}
	later := sent(me, unix.IPPROTO_UDP, 7, web+":443", 0, []byte{0x40, 1, 2, 3})
	later.Time = 31 * second
	table.Observe(later)
	if c := table.Counters(); c.Streams != 0 || c.StreamBytes != 0 || c.StreamsLost != 0 {
		t.Errorf("a connection's state outlives its age: %+v", c)
	}
}

func TestAnswersThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	table := New(Options{Asked: true})
	me := owner(1, 1000)
	answer := reply(t, 7, "a.example", 60, web)
	table.Observe(payload(me, unix.IPPROTO_UDP, 5, "9.9.9.9:53", answer))
	want(t, "forged", table.Names(flow(me, web, 1)))
	question := []byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01")
	table.Observe(sent(me, unix.IPPROTO_UDP, 5, "9.9.9.9:53", 0, question))
	table.Observe(payload(me, unix.IPPROTO_UDP, 6, "9.9.9.9:53", answer))
	table.Observe(payload(me, unix.IPPROTO_UDP, 5, "9.9.9.8:53", answer))
	table.Observe(payload(me, unix.IPPROTO_UDP, 5, "9.9.9.9:53", reply(t, 8, "a.example", 60, web)))
	want(t, "another socket, server or number", table.Names(flow(me, web, 2)))
	table.Observe(payload(me, unix.IPPROTO_UDP, 5, "9.9.9.9:53", answer))
	want(t, "asked for", table.Names(flow(me, web, 3)), "a.example dns process 0s", "cdn.example dns process 0s")
	table.Observe(payload(me, unix.IPPROTO_UDP, 5, "9.9.9.9:53", answer))
	if c := table.Counters(); c.Unasked != 5 || c.Answers != 1 {
		t.Errorf("%+v", c)
	}
}

func TestStreamsOfAFlooderAreBounded(t *testing.T) {
	t.Parallel()
	table := New(Options{Streams: 80, StreamBytes: 1 << 20})
	quiet, flooder := owner(1, 1000), owner(2, 1001)
	record := clientHello(t, "quiet.example.org")
	table.Observe(sent(quiet, unix.IPPROTO_TCP, 1, web+":443", 0, record[:50]))
	for i := range uint64(5000) {
		p := sent(flooder, unix.IPPROTO_TCP, 100+i, web+":443", 0, []byte{22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0})
		table.Observe(p)
		p.Offset, p.Data = 16000, []byte("x") // makes the buffer as large as it can get
		table.Observe(p)
		p = payload(flooder, unix.IPPROTO_TCP, 100+i, "9.9.9.9:53", []byte{0xff})
		table.Observe(p)
		p.Offset = 65000
		table.Observe(p)
	}
	c := table.Counters()
	if c.Streams > 11 || c.StreamBytes > 1<<17+1<<12 || c.StreamsLost < 9900 {
		t.Errorf("%+v", c)
	}
	table.Observe(sent(quiet, unix.IPPROTO_TCP, 1, web+":443", 50, record[50:]))
	want(t, "the quiet one", table.Names(flow(quiet, web, 1)), "quiet.example.org sni process 0s")
}

func TestOtherPayloadsSayNothing(t *testing.T) {
	t.Parallel()
	table := New(Options{})
	me := owner(1, 1000)
	for _, p := range []Payload{
		{},
		sent(me, unix.IPPROTO_UDP, 1, "9.9.9.9:53", 0, reply(t, 1, "a.example", 60, web)),
		payload(me, unix.IPPROTO_UDP, 1, "9.9.9.9:5353", reply(t, 1, "a.example", 60, web)),
		payload(me, unix.IPPROTO_SCTP, 1, "9.9.9.9:53", reply(t, 1, "a.example", 60, web)),
		payload(me, unix.IPPROTO_UDP, 1, "9.9.9.9:53", reply(t, 1, "a.example", 60)),
		payload(me, unix.IPPROTO_UDP, 1, "9.9.9.9:53", nil),
		sent(me, unix.IPPROTO_TCP, 1, web+":80", 0, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
		sent(me, unix.IPPROTO_UDP, 1, web+":443", 0, nil),
		sent(me, unix.IPPROTO_TCP, 1, web+":443", 0, nil),
	} {
		table.Observe(p)
	}
	if c := table.Counters(); c.Payloads != 9 || c.Answers != 0 || c.Facts != 0 || c.Malformed != 1 || c.Streams != 0 {
		t.Errorf("%+v", c)
	}
}
