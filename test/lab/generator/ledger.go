package main

import (
	"net/netip"
	"sort"
	"sync"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// flowKey is what the lab's rows are compared by.
type flowKey struct {
	protocol      int
	packet        bool
	local, remote netip.AddrPort
}

// ledger is what this process did, by flow.
type ledger struct {
	mu    sync.Mutex
	flows map[flowKey]*script.Flow // guarded by mu
}

func newLedger() *ledger { return &ledger{flows: map[flowKey]*script.Flow{}} }

// book applies change to the flow of s towards remote, which is made if it is new.
func (l *ledger) book(s *socket, remote netip.AddrPort, change func(*script.Flow)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := flowKey{s.protocol, s.packet(), s.named(s.local), s.named(remote)}
	f, ok := l.flows[k]
	if !ok {
		f = &script.Flow{Protocol: k.protocol, Packet: k.packet, Local: text(k.local), Remote: text(k.remote)}
		l.flows[k] = f
	}
	change(f)
}

// sent books one call. Loose ones are counted by the kernel in a way of its own.
func (l *ledger) sent(s *socket, remote netip.AddrPort, n int, loose bool) {
	l.book(s, remote, func(f *script.Flow) {
		f.Loose = f.Loose || loose
		count(n, &f.Sent, &f.Sends, &f.Empty)
	})
}

func (l *ledger) received(s *socket, remote netip.AddrPort, n int, loose bool) {
	l.book(s, remote, func(f *script.Flow) {
		f.Loose = f.Loose || loose
		count(n, &f.Received, &f.Receives, &f.Empty)
	})
}

func count(n int, bytes, calls, empty *uint64) {
	if n == 0 {
		*empty++
		return
	}
	*bytes += uint64(n)
	*calls++
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flows {
		*f = script.Flow{Protocol: f.Protocol, Packet: f.Packet, Local: f.Local, Remote: f.Remote, Before: true}
	}
}

// list gives a copy, sorted by addresses.
func (l *ledger) list() []script.Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]script.Flow, 0, len(l.flows))
	for _, f := range l.flows {
		out = append(out, *f)
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Local+" "+out[i].Remote < out[j].Local+" "+out[j].Remote
	})
	return out
}

// named is an address without what is no port.
func (s *socket) named(a netip.AddrPort) netip.AddrPort {
	if a.IsValid() && s.portless() {
		return netip.AddrPortFrom(a.Addr(), 0)
	}
	return a
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
