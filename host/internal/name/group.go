package name

import (
	"net/netip"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// place is where a name counts: an address as seen by one process, over one socket, or by users of a network namespace.
type place struct {
	address netip.Addr
	process capture.Key // or zero
	socket  uint64      // or zero; cookies are not used twice
	netns   uint32
	user    uint32 // when process and socket are zero: whose neighbours are told; 0 stands for everyone
}

// reverse is where a reverse look-up counts: everywhere, since it says nothing but whose the address is.
func reverse(address netip.Addr) place { return place{address: address} }

// evidence is one name of a place's address.
type evidence struct {
	name    string
	source  wire.NameSource
	alias   bool  // it stands behind the name that was asked for
	first   int64 // boot ns; since when it is known without a break
	last    int64 // boot ns; when it was seen for the last time
	expires int64 // boot ns, grace included
}

// group is what is known of a place.
type group []evidence

// maxGroup names are kept of a place: the newest that were asked for, then aliases.
const maxGroup = 8

// evidenceBytes is what a piece of evidence takes in memory beside its name.
const evidenceBytes = 64

// add takes up evidence. Seen again, a name keeps its better source and the longer life.
func (g group) add(e evidence) group {
	for i := range g {
		old := &g[i]
		if old.name != e.name {
			continue
		}
		if old.expires < e.last {
			old.first, old.source, old.alias, old.expires = e.last, e.source, e.alias, e.expires
		}
		if Rank(e.source) > Rank(old.source) {
			old.source = e.source
		}
		old.alias = old.alias && e.alias
		old.first = min(old.first, e.first)
		old.last = max(old.last, e.last)
		old.expires = max(old.expires, e.expires)
		return g
	}
	if len(g) < maxGroup {
		return append(g, e)
	}
	worst := 0
	for i := range g {
		if worse(&g[i], &g[worst]) {
			worst = i
		}
	}
	if !worse(&e, &g[worst]) {
		g[worst] = e
	}
	return g
}

// worse tells which of two is rather given up.
func worse(a, b *evidence) bool {
	if a.alias != b.alias {
		return a.alias
	}
	return a.last < b.last
}

// live leaves out what has expired.
func (g group) live(now int64) group {
	kept := g[:0]
	for _, e := range g {
		if e.expires >= now {
			kept = append(kept, e)
		}
	}
	clear(g[len(kept):])
	return kept
}

func (g group) bytes() int {
	total := cap(g) * evidenceBytes
	for i := range g {
		total += len(g[i].name)
	}
	return total
}
