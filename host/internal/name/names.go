package name

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	maxNames   = 16 // of a flow
	maxParents = 4  // forks that a process is followed back
	// slack is how much later than a window's end its names may be seen: the kernel side goes on counting while it
	// switches to the next window.
	slack = int64(time.Second)
)

// connection is a socket and one peer of it.
type connection struct {
	socket uint64
	peer   netip.Addr
}

// keep is what a connection had for names when they were first asked for.
type keep struct {
	names []found
	until int64 // boot ns; evidence up to then counts
	asked int64 // boot ns; end of the last window with a flow of it
}

// found is a name of a flow's remote address.
type found struct {
	name   string
	source wire.NameSource
	alias  bool
	netns  bool  // the scope
	time   int64 // boot ns
}

const foundBytes = 40

// Rank orders sources, the best being the highest (decision W12); those of rank 0 are never the single name.
func Rank(source wire.NameSource) int {
	switch source {
	case wire.NameSource_NAME_SOURCE_GETADDRINFO:
		return 4
	case wire.NameSource_NAME_SOURCE_DNS_PROCESS:
		return 3
	case wire.NameSource_NAME_SOURCE_SNI:
		return 2
	case wire.NameSource_NAME_SOURCE_DNS_NAMESPACE:
		return 1
	}
	return 0
}

// Names gives the names of a flow's remote address, each once with its best source: what the process itself was told, what
// it said, then what its neighbours were told; of equal sources the newest first, and aliases last. The result is the
// caller's. It has the form that record.Options.Domains takes; see Window for the time.
func (t *Table) Names(f *capture.Flow) []*wire.Domain {
	address, ok := Nameable(f.Remote.Addr())
	if !ok {
		return nil
	}
	by := t.lineage(f.Process)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.domains(t.findLocked(f, address, &by))
}

// lineage is a process and those that it was forked from.
type lineage struct {
	keys [1 + maxParents]capture.Key
	n    int
}

// lineage asks without the lock.
func (t *Table) lineage(process capture.Key) (l lineage) {
	for known := process != (capture.Key{}); known && l.n < len(l.keys); { // the kernel has the empty key
		l.keys[l.n] = process
		l.n++
		if known = t.options.Parent != nil; known {
			process, known = t.options.Parent(process)
		}
	}
	return l
}

// findLocked gives what a connection was called when it was made, as far as anything was known, else what its address is
// called now. The result is valid until the next call.
func (t *Table) findLocked(f *capture.Flow, address netip.Addr, by *lineage) []found {
	names := t.scratch[:0]
	var old *item[connection, keep]
	if f.Socket != 0 {
		old = t.kept.get(connection{f.Socket, address})
	}
	until := t.latest + slack
	if old != nil {
		names = append(names, old.value.names...)
		until, old.value.asked = old.value.until, t.latest
	}
	had := len(names)
	if old == nil || t.windowStart <= until { // evidence may come a window late
		for _, p := range by.keys[:by.n] {
			names = t.collectLocked(names, place{address: address, process: p, netns: f.NetNS}, until)
		}
		names = t.collectLocked(names, place{address: address, netns: f.NetNS}, until)
		if user := t.audience(f.UID); user != 0 {
			names = t.collectLocked(names, place{address: address, netns: f.NetNS, user: user}, until)
		}
	}
	if f.Socket != 0 {
		names = t.collectLocked(names, place{address: address, socket: f.Socket}, t.latest+slack)
	}
	if len(names) > had {
		names = tidy(names)
		if old == nil || !slices.Equal(names, old.value.names) {
			t.keepLocked(f, address, old, names, until)
		}
	}
	had = len(names)
	// These are never kept: they came because there were no others, and must not stand in the way of others.
	if names = t.collectLocked(names, reverse(address), t.latest+slack); len(names) > had {
		names = tidy(names)
	}
	t.scratch = names
	return names
}

// collectLocked adds the evidence of a place that is from before until and had not expired when the window began.
func (t *Table) collectLocked(names []found, at place, until int64) []found {
	it := t.places.items[at] // being asked for does not count as use: a scan of many addresses would displace the rest
	if it == nil {
		return names
	}
	for i := range it.value {
		e := &it.value[i]
		if e.first > until || e.expires < t.windowStart {
			continue
		}
		if e.source == wire.NameSource_NAME_SOURCE_GETADDRINFO {
			// Programs look up once and connect for months; while they do, they still mean that name.
			e.expires = max(e.expires, t.latest+int64(t.options.Lookup))
			t.places.use(it)
		}
		n := found{name: e.name, source: e.source, alias: e.alias, time: e.last}
		n.netns = at.process == capture.Key{} && at.socket == 0
		if n.time > until {
			n.time = e.first
		}
		names = append(names, n)
	}
	return names
}

// tidy sorts names by the rule and leaves each once.
func tidy(names []found) []found {
	slices.SortFunc(names, func(a, b found) int {
		return cmp.Or(cmp.Compare(Rank(b.source), Rank(a.source)), compareAlias(a, b),
			cmp.Compare(b.time, a.time), cmp.Compare(a.name, b.name))
	})
	kept := names[:0]
	for _, n := range names {
		if len(kept) < maxNames && !slices.ContainsFunc(kept, func(k found) bool { return k.name == n.name }) {
			kept = append(kept, n)
		}
	}
	return kept
}

func compareAlias(a, b found) int {
	switch {
	case a.alias == b.alias:
		return 0
	case a.alias:
		return 1
	}
	return -1
}

// keepLocked remembers the names for as long as the connection is asked for.
func (t *Table) keepLocked(f *capture.Flow, address netip.Addr, old *item[connection, keep], names []found, until int64) {
	if f.Socket == 0 {
		return
	}
	if old == nil {
		owner := Owner{Process: f.Process, UID: f.UID, NetNS: f.NetNS}
		old = t.kept.put(connection{f.Socket, address}, owner, keep{until: until, asked: t.latest})
	}
	old.value.names = slices.Clone(names)
	bytes := 0
	for i := range names {
		bytes += foundBytes + len(names[i].name)
	}
	t.kept.resize(old, bytes)
}

func (t *Table) domains(names []found) []*wire.Domain {
	if len(names) == 0 {
		return nil
	}
	out := make([]*wire.Domain, len(names))
	for i, n := range names {
		scope := "process"
		switch {
		case n.source == wire.NameSource_NAME_SOURCE_PTR:
			scope = "host"
		case n.netns:
			scope = "netns"
		}
		out[i] = &wire.Domain{
			Name: &wire.Text{Value: []byte(n.name)}, Source: n.source, Age: max(t.latest-n.time, 0), Scope: scope,
		}
	}
	return out
}
