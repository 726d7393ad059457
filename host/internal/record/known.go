package record

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// verdictPending is what 1.0.3 wrote beside a hash until a scanner had spoken.
const verdictPending = "VT Pending"

// known is what has been seen: the five maps of 1.0.3, and what has to be forgotten for something new.
//
// What 1.0.3 knew costs nothing until it is seen. Everything else is paid for by the account that was first seen with it.
// When its share is used up, it forgets its own: first what was seen in one window only, the oldest first, then what was
// not seen for longest. What was forgotten is new when it comes back.
type known struct {
	memory
	executables       sets                         // path → names
	names             sets                         // name → paths
	parentExecutables sets                         // likewise, of processes seen as parents
	parentNames       sets                         //
	hashes            map[string]map[string]string // path → SHA-256 in hex → verdict; of processes and parents alike
	turns             int                          // the last that was given in sets
	version           int                          // counts changes
}

// sets is a map of record.json: key → items → their turn in its list.
type sets map[string]map[string]int

func (s sets) add(key, item string, turn int) {
	if s[key] == nil {
		s[key] = map[string]int{}
	}
	if _, ok := s[key][item]; !ok {
		s[key][item] = turn
	}
}

// remove leaves no empty set behind.
func (s sets) remove(key, item string) {
	delete(s[key], item)
	if len(s[key]) == 0 {
		delete(s, key)
	}
}

// list gives the items in the order in which they were added.
func (s sets) list(key string) []string {
	set := s[key]
	return slices.SortedFunc(maps.Keys(set), func(a, b string) int { return cmp.Compare(set[a], set[b]) })
}

func newKnown(limit int) *known {
	return &known{
		memory:      newMemory(limit),
		executables: sets{}, names: sets{}, parentExecutables: sets{}, parentNames: sets{},
		hashes:  map[string]map[string]string{},
		version: 1, // nothing of it is saved
	}
}

// novelty says what about a program or a hash was not known before.
type novelty struct {
	name, exe bool
	hash      bool
	further   bool // the path already had another hash
	folded    bool // new, but there is no room for it: not kept
}

// program notes that a process of this path and name was seen.
func (k *known) program(payer account, path, name string, parent bool) novelty {
	f := fact{keyExecutables, path, name}
	if parent {
		f.key = keyParentExecutables
	}
	if k.recall(payer, f) {
		return novelty{}
	}
	executables, names := k.programs(f.key)
	_, oldExe := executables[path]
	_, oldName := names[name]
	news := novelty{name: !oldName, exe: !oldExe}
	if !k.makeRoom(payer, f) {
		news.folded = news.name || news.exe
		return news
	}
	k.learn(payer, f, false)
	k.turns++
	executables.add(path, name, k.turns)
	names.add(name, path, k.turns)
	if _, ok := k.hashes[path]; !ok {
		k.hashes[path] = map[string]string{} // 1.0.3 lists every path here, also without a hash
	}
	k.version++
	return news
}

// hash notes that the file at path had this hash. That of a program that is not kept, or no more, is not news.
func (k *known) hash(payer account, path, hash string) novelty {
	f := fact{keyHashes, path, hash}
	if !k.has(path) || k.recall(payer, f) {
		return novelty{}
	}
	news := novelty{hash: true}
	for old := range k.hashes[path] {
		news.further = news.further || isHash(old)
	}
	if !k.makeRoom(payer, f) {
		news.folded = true
		return news
	}
	k.learn(payer, f, false)
	if k.hashes[path] == nil { // a file of 1.0.3 may lack it
		k.hashes[path] = map[string]string{}
	}
	k.hashes[path][hash] = verdictPending
	k.version++
	return news
}

// recall tells whether a fact is known, and notes that it was seen. What 1.0.3 knew belongs from then on to who was seen
// with it.
func (k *known) recall(payer account, f fact) bool {
	e, ok := k.facts[f]
	switch {
	case !ok:
		return false
	case e != nil:
		k.see(e)
	case k.makeRoom(payer, f):
		k.learn(payer, f, true)
	}
	return true
}

func (k *known) programs(key string) (executables, names sets) {
	if key == keyParentExecutables {
		return k.parentExecutables, k.parentNames
	}
	return k.executables, k.names
}

// has tells whether the host knows a file at this path, as a process or as a parent.
func (k *known) has(path string) bool {
	_, process := k.executables[path]
	_, parent := k.parentExecutables[path]
	return process || parent
}

// isHash tells a SHA-256 from the failure markers that 1.0.3 used as hashes.
func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
