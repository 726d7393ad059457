package identity

import (
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// user is what one user has of the table.
type user struct {
	nodes int
	text  int
}

const (
	share        = 8   // no user has more than this part (decision 13)
	leastNodes   = 64  // which a user has in any case, so that a small table is of use
	keptText     = 256 // bytes of a path and of a command line that are kept in any case
	nodesPerText = 2   // texts of a node
)

// admit gives a node its place, if there is one for its user. The caller holds the mutex.
func (t *Table) admit(n *node) bool {
	if len(t.nodes) >= t.options.MaxProcesses {
		t.counters.Refused++
		return false
	}
	u := t.users[n.facts.UID]
	if u == nil {
		u = &user{}
		t.users[n.facts.UID] = u
	}
	if u.nodes >= max(t.options.MaxProcesses/share, leastNodes) {
		t.counters.RefusedShare++
		return false
	}
	t.cut(n, u)
	u.nodes++
	u.text += n.text
	t.text += n.text
	return true
}

// cut keeps the beginning of what a process chose when there is no room for all of it. The texts of a fork are its
// parent's, and take none.
func (t *Table) cut(n *node, u *user) {
	p := n.facts
	if p.Forked && n.parent != nil && p.File == n.parent.facts.File && p.Path.Length == n.parent.facts.Path.Length &&
		p.Arguments.Length == n.parent.facts.Arguments.Length {
		shared := *p
		shared.Path, shared.Arguments, shared.Script = n.parent.facts.Path, n.parent.facts.Arguments, n.parent.facts.Script
		n.facts = &shared
		return
	}
	n.text = len(p.Path.Value) + len(p.Arguments.Value)
	if n.text <= nodesPerText*keptText {
		return
	}
	if t.text+n.text <= t.options.MaxText && u.text+n.text <= t.options.MaxText/share {
		return
	}
	t.counters.TextsCut++
	small := *p
	small.Path, small.Arguments = shorten(p.Path), shorten(p.Arguments)
	n.facts = &small
	n.text = len(small.Path.Value) + len(small.Arguments.Value)
}

func shorten(text capture.Text) capture.Text {
	if len(text.Value) <= keptText {
		return text
	}
	return capture.Text{
		Value:  capture.Bytes(strings.Clone(string(text.Value[:keptText]))),
		Length: max(text.Length, len(text.Value)),
	}
}

// dismiss takes a node's place back. The caller holds the mutex.
func (t *Table) dismiss(n *node) {
	t.text -= n.text
	u := t.users[n.facts.UID]
	u.nodes--
	u.text -= n.text
	if u.nodes == 0 {
		delete(t.users, n.facts.UID)
	}
}
