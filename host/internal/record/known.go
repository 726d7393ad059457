package record

import (
	"slices"
	"strconv"
	"strings"
)

// verdictPending is what 1.0.3 wrote beside a hash until a scanner had spoken.
const verdictPending = "VT Pending"

// known is what has been seen: the five maps of 1.0.3, and how much of the bounds each account has used.
type known struct {
	executables       map[string][]string          // path → names
	names             map[string][]string          // name → paths
	parentExecutables map[string][]string          // likewise, of processes seen as parents
	parentNames       map[string][]string          //
	hashes            map[string]map[string]string // path → SHA-256 in hex → verdict; of processes and parents alike
	charged           map[account]int
	total             int // sum of charged
	limit             int // of total; 1/8 of it for one account
	version           int // counts changes
}

// account is who pays for an entry. Programs in containers and private mount namespaces pay apart: their names are new
// with every start, and would use up what the same user has for the programs of the host.
type account struct {
	uid    uint32
	scoped bool
}

func newKnown(limit int) *known {
	return &known{
		executables:       map[string][]string{},
		names:             map[string][]string{},
		parentExecutables: map[string][]string{},
		parentNames:       map[string][]string{},
		hashes:            map[string]map[string]string{},
		charged:           map[account]int{},
		limit:             limit,
		version:           1, // nothing of it is saved
	}
}

// novelty says what about a program or a hash was not known before.
type novelty struct {
	name, exe bool
	hash      bool
	further   bool // the path already had another hash
	folded    bool // new, but beyond the account's share: not kept
}

// program notes that a process of this path and name was seen.
func (k *known) program(payer account, path, name string, parent bool) novelty {
	executables, names := k.executables, k.names
	if parent {
		executables, names = k.parentExecutables, k.parentNames
	}
	if slices.Contains(executables[path], name) && slices.Contains(names[name], path) {
		return novelty{}
	}
	_, oldExe := executables[path]
	_, oldName := names[name]
	news := novelty{name: !oldName, exe: !oldExe}
	if !k.charge(payer, path+name) {
		news.folded = news.name || news.exe
		return news
	}
	executables[path] = include(executables[path], name)
	names[name] = include(names[name], path)
	if _, ok := k.hashes[path]; !ok {
		k.hashes[path] = map[string]string{} // 1.0.3 lists every path here, also without a hash
	}
	return news
}

// hash notes that the file at path had this hash.
func (k *known) hash(payer account, path, hash string) novelty {
	hashes := k.hashes[path]
	if _, ok := hashes[hash]; ok {
		return novelty{}
	}
	news := novelty{hash: true}
	for old := range hashes {
		news.further = news.further || isHash(old)
	}
	if !k.charge(payer, path) {
		news.folded = true
		return news
	}
	if hashes == nil {
		hashes = map[string]string{}
		k.hashes[path] = hashes
	}
	hashes[hash] = verdictPending
	return news
}

// has tells whether the host knows a file at this path, as a process or as a parent.
func (k *known) has(path string) bool {
	_, process := k.executables[path]
	_, parent := k.parentExecutables[path]
	return process || parent
}

// charge takes an entry out of the account's share. Text that is long in JSON costs more, so that entries bound memory, and
// the file: one that is too long could not be read again. An eighth of all is kept for root: other users together cannot
// use up what root needs.
func (k *known) charge(payer account, text string) bool {
	cost := 1 + len(appendJSONText(nil, text))/256
	root := account{}
	switch {
	case k.charged[payer]+cost > max(k.limit/8, 1), k.total+cost > k.limit:
		return false
	case payer != root && k.total-k.charged[root]+cost > k.limit-k.limit/8:
		return false
	}
	k.charged[payer] += cost
	k.total += cost
	k.version++
	return true
}

func include(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// isHash tells a SHA-256 from the failure markers that 1.0.3 used as hashes.
func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (a account) String() string {
	if a.scoped {
		return strconv.FormatUint(uint64(a.uid), 10) + " scoped"
	}
	return strconv.FormatUint(uint64(a.uid), 10)
}

func parseAccount(s string) (account, bool) {
	number, scoped := strings.CutSuffix(s, " scoped")
	uid, err := strconv.ParseUint(number, 10, 32)
	return account{uid: uint32(uid), scoped: scoped}, err == nil
}
