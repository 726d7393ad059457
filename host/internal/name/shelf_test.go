package name

import (
	"math/rand/v2"
	"testing"
)

// check compares the sums of a shelf with what is in it.
func check(t *testing.T, s *shelf[int, int]) {
	t.Helper()
	var all room
	users, processes := map[uint32]room{}, map[party]room{}
	add := func(r room, bytes int) room { return room{r.items + 1, r.bytes + bytes} }
	for key, it := range s.items {
		if it.key != key {
			t.Fatalf("item %d lies under %d", it.key, key)
		}
		all = add(all, it.bytes)
		users[it.owner.user] = add(users[it.owner.user], it.bytes)
		processes[it.owner] = add(processes[it.owner], it.bytes)
	}
	if s.all.used != all || len(s.users) != len(users) || len(s.processes) != len(processes) || s.all.parties != len(users) {
		t.Fatalf("all: %+v, counted %+v; %d users of %d", s.all.used, all, len(s.users), len(users))
	}
	for user, pile := range s.users {
		if pile.used != users[user] {
			t.Fatalf("user %d: %+v, counted %+v", user, pile.used, users[user])
		}
		if n := chain(pile, inUser); n != users[user].items {
			t.Fatalf("user %d: %d items in the chain of %d", user, n, users[user].items)
		}
	}
	for p, pile := range s.processes {
		if pile.used != processes[p] || chain(pile, inProcess) != processes[p].items {
			t.Fatalf("process %v: %+v, counted %+v", p, pile.used, processes[p])
		}
	}
	if chain(&s.all, inAll) != all.items {
		t.Fatal("the chain of all is not that of all")
	}
}

// chain counts the items of a chain, backwards.
func chain(p *pile[int, int], which int) (n int) {
	for it := p.last; it != nil; it = it.prev[which] {
		n++
	}
	return n
}

func TestShelfKeepsItsSumsAndBounds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	limit := room{200, 200 * (itemBytes + 50)}
	s := newShelf[int, int](limit.items, limit.bytes)
	for i := range 20000 {
		key := random.IntN(600)
		switch it := s.get(key); {
		case it == nil:
			s.resize(s.put(key, owner(uint32(key%40), uint32(key%20)), key), random.IntN(200))
		case random.IntN(4) == 0:
			s.drop(it)
		default:
			s.resize(it, random.IntN(200))
		}
		if i%50 == 0 {
			check(t, s)
		}
		if s.all.over(limit) {
			t.Fatalf("%+v", s.all.used)
		}
		for user, pile := range s.users {
			if pile.over(limit.part(8)) {
				t.Fatalf("user %d: %+v", user, pile.used)
			}
		}
	}
	for len(s.items) > 0 {
		s.drop(s.all.first)
	}
	check(t, s)
}

func TestShelfForgetsWhatWasNotUsedForLongest(t *testing.T) {
	t.Parallel()
	s := newShelf[int, int](80, 1<<20) // ten for each user
	for key := range 10 {
		s.resize(s.put(key, owner(1, 1), key), 0)
	}
	s.get(0)
	s.resize(s.put(10, owner(1, 1), 10), 0)
	if s.get(1) != nil || s.get(0) == nil || s.get(10) == nil || s.lost != 1 {
		t.Errorf("lost %d; 0: %v, 1: %v", s.lost, s.get(0), s.get(1))
	}
	s.resize(s.put(11, owner(1, 1), 11), 1<<20)
	if len(s.items) != 0 {
		t.Errorf("an item larger than a share leaves %d", len(s.items))
	}
}
