package name

import (
	"net/netip"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// sweepEvery is how often, in boot time, what has expired is taken out. It is bounded anyway.
const sweepEvery = int64(time.Minute)

// Table keeps the names of addresses. New makes one.
type Table struct {
	options Options
	streams *streams

	mu                  sync.Mutex
	places              *shelf[place, group]
	kept                *shelf[connection, keep]
	windowStart, latest int64 // boot ns; latest is the window's end, or later while there was none
	windows             bool  // Window was called
	swept               int64
	facts, refused      uint64
	scratch             []found
}

// New makes an empty table.
func New(o Options) *Table {
	o = o.withDefaults()
	return &Table{
		options: o, streams: newStreams(o), places: newShelf[place, group](o.Addresses, o.Bytes),
		kept: newShelf[connection, keep](o.Connections, o.KeptBytes),
	}
}

// Window tells which window the flows that Names is asked for next belong to. It is to be called before them; without it
// they count as of the latest time that the table has heard of.
func (t *Table) Window(w *capture.Window) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.windowStart, t.latest, t.windows = w.Start.Boot, w.End.Boot, true
	if t.latest-t.swept >= sweepEvery || t.latest < t.swept {
		t.swept = t.latest
		t.sweepLocked(t.windowStart)
	}
}

// Lookup learns the result of a getaddrinfo call.
func (t *Table) Lookup(o Owner, host string, addresses []netip.Addr, time int64) {
	for _, a := range addresses[:min(len(addresses), 128)] {
		t.Learn(Fact{Owner: o, Source: wire.NameSource_NAME_SOURCE_GETADDRINFO, Name: host, Address: a, Time: time})
	}
}

// Learn takes up one fact. What can be no name, and addresses that can have none, are counted and dropped.
func (t *Table) Learn(f Fact) {
	address, ok := Nameable(f.Address)
	name, good := hostname(f.Name)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advanceLocked(f.Time)
	f.Address = address
	own, shared := t.scopes(f)
	if !ok || !good || shared == (place{}) {
		t.refused++
		return
	}
	t.facts++
	e := evidence{name: name, source: f.Source, first: f.Time, last: f.Time, expires: f.Time + t.life(f)}
	if own != (place{}) {
		t.tellLocked(f, own, e)
	}
	if shared != own {
		e.source = wire.NameSource_NAME_SOURCE_DNS_NAMESPACE
		t.tellLocked(f, shared, e)
	}
}

// scopes gives the place where a fact counts, and the one where it is a hint to neighbours, or the same again. Without the
// process or socket that it needs, there is no place.
func (t *Table) scopes(f Fact) (own, shared place) {
	neighbours := place{address: f.Address, netns: f.NetNS, user: t.audience(f.UID)}
	var process, socket place
	if f.Process != (capture.Key{}) {
		process = place{address: f.Address, process: f.Process, netns: f.NetNS}
	}
	if f.Socket != 0 {
		socket = place{address: f.Address, socket: f.Socket}
	}
	switch f.Source {
	case wire.NameSource_NAME_SOURCE_GETADDRINFO:
		return process, process
	case wire.NameSource_NAME_SOURCE_DNS_PROCESS:
		return process, neighbours
	case wire.NameSource_NAME_SOURCE_SNI, wire.NameSource_NAME_SOURCE_SNI_OUTER:
		return socket, socket
	case wire.NameSource_NAME_SOURCE_DNS_NAMESPACE:
		return neighbours, neighbours
	case wire.NameSource_NAME_SOURCE_PTR:
		return reverse(f.Address), reverse(f.Address)
	}
	return place{}, place{}
}

// audience is who hears what a user was told: everyone (0), or for ordinary users only they themselves.
func (t *Table) audience(user uint32) uint32 {
	if user < t.options.FirstUser {
		return 0
	}
	return user
}

func (t *Table) life(f Fact) int64 {
	switch f.Source {
	case wire.NameSource_NAME_SOURCE_GETADDRINFO, wire.NameSource_NAME_SOURCE_SNI, wire.NameSource_NAME_SOURCE_SNI_OUTER:
		return int64(t.options.Lookup)
	}
	return int64(min(max(f.TTL, 0), t.options.MaxTTL) + t.options.Grace)
}

// tellLocked adds a name and its aliases to a place.
func (t *Table) tellLocked(f Fact, at place, e evidence) {
	it := t.places.get(at)
	if it == nil {
		it = t.places.put(at, f.Owner, nil)
	}
	it.value = it.value.live(min(e.last, t.windowStart)).add(e)
	e.alias = true
	for _, raw := range f.Aliases[:min(len(f.Aliases), maxAliases)] {
		if alias, ok := hostname(raw); ok && alias != e.name {
			a := e
			a.name = alias
			it.value = it.value.add(a)
		}
	}
	t.places.resize(it, it.value.bytes())
}

func (t *Table) advanceLocked(now int64) {
	if !t.windows && now > t.latest {
		t.windowStart, t.latest = now, now
	}
}

// silent is how long a connection may have no traffic before it counts as ended; nobody tells when one is.
const silent = int64(24 * time.Hour)

// sweepLocked takes out what no flow of a window from then on can ask for.
func (t *Table) sweepLocked(start int64) {
	for _, it := range t.places.items {
		before := len(it.value)
		if it.value = it.value.live(start); len(it.value) == 0 {
			t.places.drop(it)
		} else if len(it.value) < before {
			t.places.resize(it, it.value.bytes())
		}
	}
	for it := t.kept.all.first; it != nil && it.value.asked < start-silent; it = t.kept.all.first {
		t.kept.drop(it)
	}
}

// Counters tells what was done and lost so far, and what is held.
func (t *Table) Counters() Counters {
	c := t.streams.counters()
	t.mu.Lock()
	defer t.mu.Unlock()
	c.Facts, c.Refused = t.facts, t.refused
	c.AddressesLost, c.ConnectionsLost = t.places.lost, t.kept.lost
	c.Addresses, c.Bytes = t.places.all.used.items, t.places.all.used.bytes
	c.Connections, c.KeptBytes = t.kept.all.used.items, t.kept.all.used.bytes
	return c
}
