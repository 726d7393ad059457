package name

import "github.com/picosnitch/picosnitch/host/internal/capture"

// shelf is a map with room for a number of items and of bytes, of which a user gets no more than 1/8. When the user's part
// is taken, a process that has no less than the average of the user's pays with what it used longest ago; who has less
// makes such a one pay. The same holds for users when all of it is taken. So a flood displaces itself. A shelf is not safe
// for use by several goroutines.
type shelf[K comparable, V any] struct {
	room      room
	items     map[K]*item[K, V]
	all       pile[K, V]
	users     map[uint32]*pile[K, V]
	processes map[party]*pile[K, V]
	lost      uint64 // items that had to make room
}

type room struct{ items, bytes int }

func (r room) part(n int) room { return room{max(r.items/n, 1), max(r.bytes/n, 1)} }

type party struct {
	user    uint32
	process capture.Key
}

// Chains that an item is in, each with its least recently used item first.
const (
	inAll = iota
	inUser
	inProcess
	chains
)

type item[K comparable, V any] struct {
	key   K
	value V
	owner party
	bytes int
	next  [chains]*item[K, V]
	prev  [chains]*item[K, V]
}

type pile[K comparable, V any] struct {
	used        room
	parties     int // that share it: users of the machine, processes of the user
	first, last *item[K, V]
}

// itemBytes is about what an item takes beside its value: links, its places in maps, the allocator's rounding.
const itemBytes = 288

func newShelf[K comparable, V any](items, bytes int) *shelf[K, V] {
	return &shelf[K, V]{
		room: room{items, bytes}, items: map[K]*item[K, V]{},
		users: map[uint32]*pile[K, V]{}, processes: map[party]*pile[K, V]{},
	}
}

// get gives an item and marks it as used, or nil.
func (s *shelf[K, V]) get(key K) *item[K, V] {
	it := s.items[key]
	if it != nil {
		s.use(it)
	}
	return it
}

// use marks an item as used.
func (s *shelf[K, V]) use(it *item[K, V]) {
	if s.all.last != it {
		s.each(it, func(p *pile[K, V], chain int) { p.unlink(it, chain); p.link(it, chain) })
	}
}

// put adds an item that is not there yet; resize is to follow.
func (s *shelf[K, V]) put(key K, o Owner, value V) *item[K, V] {
	it := &item[K, V]{key: key, value: value, owner: party{o.UID, o.Process}, bytes: itemBytes}
	s.items[key] = it
	user := s.users[o.UID]
	if user == nil {
		user = &pile[K, V]{}
		s.users[o.UID] = user
		s.all.parties++
	}
	if s.processes[it.owner] == nil {
		s.processes[it.owner] = &pile[K, V]{}
		user.parties++
	}
	s.each(it, func(p *pile[K, V], chain int) {
		p.used.items++
		p.used.bytes += it.bytes
		p.link(it, chain)
	})
	return it
}

// resize tells how many bytes the value of an item takes, and makes room for it. An item that alone is larger than a
// user's part is gone then.
func (s *shelf[K, V]) resize(it *item[K, V], bytes int) {
	grown := itemBytes + bytes - it.bytes
	it.bytes += grown
	s.each(it, func(p *pile[K, V], _ int) { p.used.bytes += grown })
	for user := s.users[it.owner.user]; user.over(s.room.part(8)); {
		s.evict(s.payer(it.owner, user, inUser))
	}
	for s.all.over(s.room) {
		s.evict(s.payer(it.owner, &s.all, inAll))
	}
}

// payer is the item that makes room in a pile that several parties share, when the owner of it needs some: his own, if he
// has more than the average, else that of somebody who has. Few small parties in front hide a big one for this long only.
func (s *shelf[K, V]) payer(owner party, whole *pile[K, V], chain int) *item[K, V] {
	const look = 32
	greedy := func(p party) (*pile[K, V], bool) {
		part := s.processes[p]
		if chain == inAll {
			part = s.users[p.user]
		}
		return part, part != nil && part.used.items*whole.parties >= whole.used.items
	}
	if part, yes := greedy(owner); yes {
		return part.first
	}
	for n, it := 0, whole.first; n < look && it != nil; n, it = n+1, it.next[chain] {
		if _, yes := greedy(it.owner); yes {
			return it
		}
	}
	return whole.first
}

func (s *shelf[K, V]) evict(it *item[K, V]) {
	s.lost++
	s.drop(it)
}

// drop takes an item away.
func (s *shelf[K, V]) drop(it *item[K, V]) {
	delete(s.items, it.key)
	s.each(it, func(p *pile[K, V], chain int) {
		p.used.items--
		p.used.bytes -= it.bytes
		p.unlink(it, chain)
	})
	user := s.users[it.owner.user]
	if s.processes[it.owner].first == nil {
		delete(s.processes, it.owner)
		user.parties--
	}
	if user.first == nil {
		delete(s.users, it.owner.user)
		s.all.parties--
	}
}

// each calls f for every pile that an item is in.
func (s *shelf[K, V]) each(it *item[K, V], f func(p *pile[K, V], chain int)) {
	f(&s.all, inAll)
	f(s.users[it.owner.user], inUser)
	f(s.processes[it.owner], inProcess)
}

func (p *pile[K, V]) over(r room) bool {
	return p.first != nil && (p.used.items > r.items || p.used.bytes > r.bytes)
}

func (p *pile[K, V]) link(it *item[K, V], chain int) {
	it.prev[chain], it.next[chain] = p.last, nil
	if p.last != nil {
		p.last.next[chain] = it
	} else {
		p.first = it
	}
	p.last = it
}

func (p *pile[K, V]) unlink(it *item[K, V], chain int) {
	before, after := it.prev[chain], it.next[chain]
	if before != nil {
		before.next[chain] = after
	} else {
		p.first = after
	}
	if after != nil {
		after.prev[chain] = before
	} else {
		p.last = before
	}
}
