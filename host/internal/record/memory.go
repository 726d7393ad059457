package record

import (
	"container/list"
	"iter"
)

// fact is one thing that is known: key is the map of record.json that has it, path the file, text a name of its process or,
// below keyHashes, its hash.
type fact struct{ key, path, text string }

// cost is more for text that is long in JSON, so that facts bound memory, and the file: one that is too long could not be
// read again.
func (f fact) cost() int {
	text := f.path
	if f.key != keyHashes {
		text += f.text
	}
	return 1 + len(appendJSONText(nil, text))/256
}

// memory is who has learned which facts, and in which order they are forgotten.
type memory struct {
	quota
	facts     map[fact]*entry // all that are known; nil: nobody has learned it, 1.0.3 knew it
	once      map[account]*list.List
	again     map[account]*list.List
	window    uint64 // the present one
	forgotten uint64 // ever
	moved     bool   // the order differs from the one that was saved
}

// entry is a fact that an account has learned.
type entry struct {
	fact
	payer account
	last  uint64        // window that saw it
	again bool          // several windows did
	at    *list.Element // in once: the oldest in front; in again: the one that was not seen for longest
}

func newMemory(limit int) memory {
	return memory{
		quota: newQuota(limit), facts: map[fact]*entry{}, window: 1,
		once: map[account]*list.List{}, again: map[account]*list.List{},
	}
}

// learn books a fact, for which there must be room, as the newest of its account.
func (m *memory) learn(payer account, f fact, again bool) {
	e := &entry{fact: f, payer: payer, last: m.window, again: again}
	m.facts[f] = e
	m.add(payer, f.cost())
	m.push(e)
}

// see notes that an entry was seen in the present window.
func (m *memory) see(e *entry) {
	if e.last != m.window {
		e.last = m.window
		m.promote(e)
	}
}

// promote puts an entry where those are that were seen again, just now.
func (m *memory) promote(e *entry) {
	m.pull(e)
	e.again = true
	m.push(e)
}

// erase forgets a fact, and gives back what was paid for it.
func (m *memory) erase(f fact) {
	if e := m.facts[f]; e != nil {
		m.pull(e)
		m.add(e.payer, -f.cost())
	}
	delete(m.facts, f)
	m.forgotten++
}

// inOrder gives the entries of an account, the one to be forgotten first in front. The one given may be promoted or erased.
func (m *memory) inOrder(payer account) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, lists := range []map[account]*list.List{m.once, m.again} {
			entries, ok := lists[payer]
			if !ok {
				continue
			}
			for at, next := entries.Front(), (*list.Element)(nil); at != nil; at = next {
				next = at.Next()
				if !yield(at.Value.(*entry)) {
					return
				}
			}
		}
	}
}

// payer is the account that has learned a fact; root stands for nobody.
func (m *memory) payer(f fact) account {
	if e := m.facts[f]; e != nil {
		return e.payer
	}
	return account{}
}

func (m *memory) lists(again bool) map[account]*list.List {
	if again {
		return m.again
	}
	return m.once
}

func (m *memory) push(e *entry) {
	lists := m.lists(e.again)
	if lists[e.payer] == nil {
		lists[e.payer] = list.New()
	}
	e.at = lists[e.payer].PushBack(e)
	m.moved = true
}

// pull leaves no empty list behind: accounts come and go.
func (m *memory) pull(e *entry) {
	lists := m.lists(e.again)
	lists[e.payer].Remove(e.at)
	if lists[e.payer].Len() == 0 {
		delete(lists, e.payer)
	}
}
