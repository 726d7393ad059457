package record

import (
	"cmp"
	"slices"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// party is who a row counts for when rows are shared out. Bytes of different layers are never added up.
type party struct {
	layer   wire.Layer
	uid     uint32
	process *wire.Process
}

func byUser(r *row) party    { return party{layer: r.layer, uid: r.process.GetRuid()} }
func byProcess(r *row) party { return party{layer: r.layer, process: r.process} }

// shares folds rows until budget holds them and no user and no process has more than 1/8 of it. Who has too many loses its
// smallest: they become one row of the process, or, with more processes than rows, of the user. Sums stay exact. With
// several layers or under a budget smaller than the number of users a few rows more may be left.
func shares(rows []*row, budget int) []*row {
	share := max(budget/8, 1)
	if len(rows) <= share {
		return rows
	}
	return divide(rows, budget, share, byUser, byProcess)
}

// divide gives every party of the first kind the same limit, the highest for which all fit, and divides on within it.
func divide(rows []*row, budget, share int, by ...func(*row) party) []*row {
	if len(by) == 0 {
		return squeeze(rows, budget)
	}
	groups := group(rows, by[0])
	sizes := make([]int, len(groups))
	for i, g := range groups {
		sizes[i] = len(g)
	}
	limit := min(level(sizes, budget), share)
	if limit == 0 {
		return crowd(groups, budget)
	}
	var out []*row
	for _, g := range groups {
		if len(g) > limit {
			g = divide(g, limit, share, by[1:]...)
		}
		out = append(out, g...)
	}
	return out
}

// crowd serves more parties than there are rows: the biggest get one row each, the others share one.
func crowd(groups [][]*row, budget int) []*row {
	var out, rest []*row
	slices.SortStableFunc(groups, func(a, b []*row) int { return cmp.Compare(weight(b...), weight(a...)) })
	for i, g := range groups {
		if i < budget-1 {
			out = append(out, merge(g))
		} else {
			rest = append(rest, g...)
		}
	}
	for _, g := range group(rest, func(r *row) party { return party{layer: r.layer} }) {
		out = append(out, merge(g))
	}
	return out
}

// squeeze keeps the biggest rows and makes one of the others, so that budget rows are left.
func squeeze(rows []*row, budget int) []*row {
	if len(rows) <= budget {
		return rows
	}
	sorted := slices.Clone(rows)
	slices.SortStableFunc(sorted, func(a, b *row) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(b.sends+b.receives, a.sends+a.receives))
	})
	keep := max(budget-1, 0)
	return append(sorted[:keep:keep], merge(sorted[keep:]))
}

func weight(rows ...*row) (bytes uint64) {
	for _, r := range rows {
		bytes += r.sent + r.received
	}
	return bytes
}

// group keeps the order of first appearance.
func group(rows []*row, by func(*row) party) [][]*row {
	var groups [][]*row
	index := map[party]int{}
	for _, r := range rows {
		key := by(r)
		i, ok := index[key]
		if !ok {
			i = len(groups)
			index[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// level is the highest limit with which parties of these sizes fit into budget: what small ones leave goes to big ones.
func level(sizes []int, budget int) int {
	sorted := slices.Sorted(slices.Values(sizes))
	for i, size := range sorted {
		left := len(sorted) - i
		if size*left > budget {
			return budget / left
		}
		budget -= size
	}
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)-1]
}

// merge makes one row without a peer of rows of one layer: what they have in common stays, bytes and calls are summed.
func merge(rows []*row) *row {
	if len(rows) == 1 {
		return rows[0]
	}
	out := &row{tuple: rows[0].tuple, socket: rows[0].socket}
	peers := map[end]bool{}
	for _, r := range rows {
		out.common(&r.tuple)
		out.add(r)
		if r.peer != wire.Peer_PEER_FOLDED {
			peers[r.remote] = true
		}
	}
	none := end{port: -1}
	out.local, out.remote, out.mapped, out.domain = none, none, false, ""
	out.candidates, out.bestDomain, out.domains = nil, nil, nil
	out.peer, out.direction, out.result = wire.Peer_PEER_FOLDED, wire.Direction_DIRECTION_UNKNOWN, wire.Result_RESULT_UNKNOWN
	out.folded += uint64(len(peers))
	return out
}

// common empties what t and o do not have in common. A row of several processes has one that is only a user.
func (t *tuple) common(o *tuple) {
	if compareProcesses(t.process, o.process) != 0 {
		uid := t.process.GetRuid()
		if uid != o.process.GetRuid() {
			uid = ^uint32(0) // nobody's: 0 would be root
		}
		t.process = &wire.Process{Ruid: uid, Euid: uid, Loginuid: ^uint32(0), Session: ^uint32(0)}
	}
	t.parent = sameProcess(t.parent, o.parent)
	t.grandparent = sameProcess(t.grandparent, o.grandparent)
	t.family = same(t.family, o.family)
	t.protocol = same(t.protocol, o.protocol)
	t.netns = same(t.netns, o.netns)
	t.ifindex = same(t.ifindex, o.ifindex)
	t.attribution = same(t.attribution, o.attribution)
	t.counting = same(t.counting, o.counting)
	t.existing = same(t.existing, o.existing)
}

// sameProcess takes no offence at another version of its message: a hash may have come while the window was summed up.
func sameProcess(a, b *wire.Process) *wire.Process {
	if compareProcesses(a, b) != 0 {
		return nil
	}
	return a
}

func same[T comparable](a, b T) T {
	if a != b {
		var none T
		return none
	}
	return a
}
