package record

import (
	"cmp"
	"strconv"
	"strings"
)

// account is who pays for an entry. Programs in containers and private mount namespaces pay apart: their names are new
// with every start, and would use up what the same user has for the programs of the host.
type account struct {
	uid    uint32
	scoped bool
}

// quota shares something out: an eighth at most for one account, and an eighth is kept for root, so that other users
// together cannot use up what root needs.
type quota struct {
	limit int // of total
	total int // sum of used
	used  map[account]int
}

func newQuota(limit int) quota { return quota{limit: limit, used: map[account]int{}} }

// room is what an account may have in all, as long as the others keep what they have.
func (q *quota) room(payer account) int {
	root, own := account{}, q.used[payer]
	room := min(max(q.limit/8, 1), q.limit-q.total+own)
	if payer != root {
		room = min(room, q.limit-q.limit/8-(q.total-q.used[root])+own)
	}
	return room
}

// add books a cost, or with a negative one gives it back.
func (q *quota) add(payer account, cost int) {
	q.total += cost
	if q.used[payer] += cost; q.used[payer] == 0 {
		delete(q.used, payer)
	}
}

func (q *quota) reset() {
	q.total = 0
	clear(q.used)
}

// others stands for all those who have no share.
func others() account { return account{uid: ^uint32(0)} }

func compareAccounts(a, b account) int {
	return cmp.Or(cmp.Compare(a.uid, b.uid), compareFlags(a.scoped, b.scoped))
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
