package canary

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// place is a socket, and a peer of it that was seen exactly; an invalid one stands for all, known or not.
type place struct {
	cookie uint64
	peer   netip.AddrPort
}

type sums struct{ sent, received, connects uint64 }

// trial is one exchange on its way back. It is guarded by the canary's mutex.
type trial struct {
	wants    []want
	got      map[place]sums
	exec     bool // the tiny program was executed too
	executed bool
	ended    bool
	process  capture.Key
	finished capture.Moment // when everything had been moved; zero before
	windows  int            // that ended later
}

// add counts a flow of ours.
func (t *trial) add(f *capture.Flow) {
	places := []place{{cookie: f.Socket}}
	if f.Peer == wire.Peer_PEER_EXACT && f.Remote.IsValid() {
		places = append(places, place{f.Socket, f.Remote})
	}
	for _, at := range places {
		s := t.got[at]
		s.sent, s.received, s.connects = s.sent+f.Sent, s.received+f.Received, s.connects+f.Connects
		t.got[at] = s
	}
}

// blind names what is missing. A peer is missing only where the socket's bytes are all there: without them nobody could
// tell.
func (t *trial) blind(words map[sense]string) []string {
	missing := map[sense]bool{}
	whole := map[uint64]sums{} // what a socket must show in all, as far as it does
	for _, w := range t.wants {
		if w.peer.IsValid() {
			continue
		}
		got := t.got[place{cookie: w.cookie}]
		missing[w.missing] = missing[w.missing] || got.sent < w.sums.sent || got.connects < w.sums.connects
		missing[w.received] = missing[w.received] || got.received < w.sums.received
		if got.sent >= w.sums.sent {
			whole[w.cookie] = sums{sent: w.sums.sent}
		}
		if got.received >= w.sums.received {
			whole[w.cookie] = sums{sent: whole[w.cookie].sent, received: w.sums.received}
		}
	}
	for _, w := range t.wants {
		if !w.peer.IsValid() {
			continue
		}
		got, all := t.got[place{w.cookie, w.peer}], whole[w.cookie]
		missing[w.missing] = missing[w.missing] || got.sent < w.sums.sent && all.sent > 0
		missing[w.received] = missing[w.received] || got.received < w.sums.received && all.received > 0
	}
	missing[execs] = t.exec && !t.executed
	missing[exits] = t.exec && t.executed && !t.ended
	var list []string
	for s := range senses {
		if word := words[s]; missing[s] && word != "" && !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}

// lossy tells whether a window admits a loss that may have hit the canary too. What found no room in a ring was a hint, and
// its facts are read from a map then, or has nothing to do with the canary.
func lossy(w *capture.Window) bool {
	return slices.ContainsFunc(w.Losses, func(l capture.Loss) bool { return !strings.Contains(l.Cause, " ring") })
}
