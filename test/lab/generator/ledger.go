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
	k := flowKey{s.protocol, s.local, remote}
	f, ok := l.flows[k]
	if !ok {
		f = &script.Flow{Protocol: s.protocol, Local: text(s.local), Remote: text(remote)}
		l.flows[k] = f
	}
	change(f)
}

func (l *ledger) sent(s *socket, remote netip.AddrPort, n int) {
	l.book(s, remote, func(f *script.Flow) { count(n, &f.Sent, &f.Sends, &f.Empty) })
}

func (l *ledger) received(s *socket, remote netip.AddrPort, n int) {
	l.book(s, remote, func(f *script.Flow) { count(n, &f.Received, &f.Receives, &f.Empty) })
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
		*f = script.Flow{Protocol: f.Protocol, Local: f.Local, Remote: f.Remote, Before: true}
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

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
