package name

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

func BenchmarkObserve(b *testing.B) {
	me := owner(1, 1000)
	tlsHello, quic := clientHello(b, "www.example.org"), initial(b)
	for _, c := range []struct {
		name    string
		payload Payload
	}{
		{"DNS, alias and four addresses", payload(me, unix.IPPROTO_UDP, 1, "9.9.9.9:53",
			reply(b, 1, "a.example", 60, "93.184.215.14", "93.184.215.15", "93.184.215.16", "93.184.215.17"))},
		{"DNS, one address", payload(me, unix.IPPROTO_UDP, 1, "9.9.9.9:53", reply(b, 1, "a.example", 60, web))},
		{"TLS", sent(me, unix.IPPROTO_TCP, 7, web+":443", 0, tlsHello)},
		{"QUIC", sent(me, unix.IPPROTO_UDP, 0, web+":443", 0, quic)},
		{"not a hello", sent(me, unix.IPPROTO_TCP, 7, web+":80", 0, []byte("GET / HTTP/1.1\r\n"))},
	} {
		b.Run(c.name, func(b *testing.B) {
			table := New(Options{})
			b.ReportAllocs()
			for b.Loop() {
				table.Observe(c.payload)
			}
		})
	}
}

// filled is a table of 20,000 addresses with a name each, known to a process and to the other processes of its user.
func filled() *Table {
	table := New(Options{Addresses: 1 << 20, Bytes: 1 << 30, Connections: 1 << 17, KeptBytes: 1 << 30})
	for i := range uint32(20000) {
		address := netip.AddrFrom4([4]byte{20, 0, byte(i >> 8), byte(i)}).String()
		learn(table, owner(i%100, 1000), dnsProcess, fmt.Sprintf("%d.some.example.org", i), address, 0, time.Hour)
	}
	window(table, 0, second)
	return table
}

func BenchmarkNames(b *testing.B) {
	for _, c := range []struct {
		name  string
		first byte // of the addresses
		known bool // the connections are in their third window
	}{
		{"a connection that is known", 20, true},
		{"a new connection", 20, false},
		{"no name", 21, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			table := filled()
			flows := make([]capture.Flow, 10000)
			for i := range flows {
				flows[i] = *flow(owner(uint32(i%100), 1000), web, uint64(i+1))
				flows[i].Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{c.first, 0, byte(i >> 8), byte(i)}), 443)
				table.Names(&flows[i])
			}
			window(table, 10*second, 20*second)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				f := &flows[i%len(flows)]
				if i++; !c.known {
					f.Socket += 10000
				}
				if (table.Names(f) != nil) != (c.first == 20) {
					b.Fatal("another result than expected")
				}
			}
		})
	}
}
