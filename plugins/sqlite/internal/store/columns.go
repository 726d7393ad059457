package store

import (
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// column says where a column of `connections` lies in the tables. Everything that asks, the view as well as queries, is
// made of it.
type column struct {
	sdk.Column
	base  string // column of flows that determines it
	from  string // tables to look it up in, none when it stands in flows; id is their key that base refers to
	id    string
	value string // expression over from, or over `f`, the flows
}

// expression is the column's value for a row f.
func (c column) expression() string {
	if c.from == "" {
		return c.value
	}
	return fmt.Sprintf("(SELECT %s FROM %s WHERE %s = f.%s)", c.value, c.from, c.id, c.base)
}

// matching is a condition on f that holds where test does; test makes a condition of an expression. What is looked up is
// looked up once for the query, not once for a row.
func (c column) matching(test func(value string) string) string {
	if c.from == "" {
		return test(c.value)
	}
	return fmt.Sprintf("f.%s IN (SELECT %s FROM %s WHERE %s)", c.base, c.id, c.from, test(c.value))
}

// columns gives every column of `connections`, in order. It fails when the SDK has one that this package does not know.
func columns() ([]column, error) {
	known := make(map[string]column)
	for _, list := range [][]column{windowColumns(), flowColumns(), processColumns()} {
		for _, c := range list {
			known[c.Name] = c
		}
	}
	var all []column
	for _, c := range sdk.Columns() {
		k, ok := known[c.Name]
		if !ok {
			return nil, fmt.Errorf("column %s of the SDK is not stored", c.Name)
		}
		k.Column = c
		all = append(all, k)
	}
	return all, nil
}

func named(name string) sdk.Column { return sdk.Column{Name: name} }

// siteColumn is a dimension that `connections` has not: the part of the domain that somebody registered.
const siteColumn = "site"

// addressTable is where the columns come from that hold addresses.
const addressTable = "addresses a"

func windowColumns() []column {
	var list []column
	for _, c := range [][2]string{{"contime", "contime"}, {"window_start", "started"}, {"window_end", "ended"}} {
		list = append(list, column{named(c[0]), "window", "windows w", "w.id", "w." + c[1]})
	}
	for _, name := range []string{"host_id", "epoch"} {
		list = append(list, column{named(name), "batch", "batches b JOIN epochs e ON e.id = b.epoch", "b.id",
			"lower(hex(e." + name + "))"})
	}
	return list
}

func flowColumns() []column {
	var list []column
	for name, base := range map[string]string{"send": "sent", "recv": "received", "seq": "sequence"} {
		list = append(list, column{Column: named(name), base: base, value: "f." + base})
	}
	for _, name := range strings.Fields("sends receives connects accepts failures listens lport socket") {
		list = append(list, column{Column: named(name), base: name, value: "f." + name})
	}
	for name, none := range map[string]string{"folded_peers": "0", "candidates": "''", "truncated": "''"} {
		list = append(list, column{Column: named(name), base: "id",
			value: fmt.Sprintf("coalesce((SELECT %s FROM flow_rare WHERE flow = f.id), %s)", name, none)})
	}
	return append(list, append(remoteColumns(), traitColumns()...)...)
}

// remoteColumns are those that the remote end determines.
func remoteColumns() []column {
	list := []column{
		{named("raddr"), "remote", "remotes r JOIN " + addressTable + " ON a.id = r.raddr", "r.id", "a.value"},
		{named("domain"), "remote", "remotes r JOIN texts t ON t.id = r.domain", "r.id", "t.value"},
		{sdk.Column{Name: siteColumn, Type: sdk.Text}, "remote", "remotes r JOIN texts t ON t.id = r.site", "r.id", "t.value"},
		{named("direction"), "remote", "remotes r", "r.id", words("r.direction", func(n int32) string { return sdk.DirectionWord(wire.Direction(n)) })},
	}
	for _, name := range []string{"rport", "family", "protocol"} {
		list = append(list, column{named(name), "remote", "remotes r", "r.id", "r." + name})
	}
	return list
}

// traitColumns are those that the trait determines.
func traitColumns() []column {
	list := []column{{named("laddr"), "trait", "traits q JOIN " + addressTable + " ON a.id = q.laddr", "q.id", "a.value"}}
	for _, name := range strings.Fields("mapped netns ifindex existing icmp_type icmp_code") {
		list = append(list, column{named(name), "trait", "traits q", "q.id", "q." + name})
	}
	for name, word := range map[string]func(int32) string{
		"result":        func(n int32) string { return sdk.ResultWord(wire.Result(n)) },
		"layer":         func(n int32) string { return sdk.LayerWord(wire.Layer(n)) },
		"peer":          func(n int32) string { return sdk.PeerWord(wire.Peer(n)) },
		"domain_source": func(n int32) string { return sdk.NameSourceWord(wire.NameSource(n)) },
		"attribution":   func(n int32) string { return sdk.AttributionWord(wire.Attribution(n)) },
		"counting":      func(n int32) string { return sdk.CountingWord(wire.Counting(n)) },
	} {
		list = append(list, column{named(name), "trait", "traits q", "q.id", words("q."+name, word)})
	}
	return list
}

// words is an expression for the word of an enum; a number without a word is the number, as in the SDK.
func words(expression string, word func(int32) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CASE %s", expression)
	for n := range int32(32) {
		if w := word(n); w != fmt.Sprint(n) {
			fmt.Fprintf(&b, " WHEN %d THEN '%s'", n, w)
		}
	}
	fmt.Fprintf(&b, " ELSE CAST(%s AS TEXT) END", expression)
	return b.String()
}

// processColumns are those of the process and, with a letter before the name, of its parent and grandparent. More are
// made than the SDK has.
func processColumns() []column {
	var list []column
	for _, who := range [][2]string{{"", "process"}, {"p", "parent"}, {"g", "grandparent"}} {
		prefix := who[0]
		from := "actors o JOIN processes p ON p.id = o." + who[1]
		for _, name := range strings.Fields(`name tty kernel uid pid inner_pid start_time exec_id euid gid loginuid session
unit_verified pid_ns mnt_ns`) {
			list = append(list, column{named(prefix + name), "actor", from, "o.id", "p." + name})
		}
		for _, name := range executableColumns() {
			list = append(list, column{named(prefix + name), "actor", from + " JOIN executables x ON x.id = p.executable",
				"o.id", "x." + name})
		}
		for _, name := range strings.Fields("cmdline claimed_cmdline cgroup unit container boot_id") {
			list = append(list, column{named(prefix + name), "actor", from + " JOIN texts t ON t.id = p." + name,
				"o.id", "t.value"})
		}
	}
	return list
}

func executableColumns() []string {
	return strings.Fields("exe sha256 exe_scope hash_status script package superblock dev inode ctime size")
}

// carriedColumns are those that roll-ups know, in terms of a row f of them: base is its program or remote.
func carriedColumns() []column {
	list := remoteColumns()
	for _, who := range []string{"", "p", "g"} {
		for _, name := range executableColumns() {
			list = append(list, column{named(who + name), "program",
				"programs m JOIN executables x ON x.id = m." + who + "executable", "m.id", "x." + name})
		}
		for _, name := range []string{"name", "uid"} {
			list = append(list, column{named(who + name), "program", "programs m", "m.id", "m." + who + name})
		}
	}
	for _, name := range []string{"unit", "container"} {
		list = append(list, column{named(name), "program", "programs m JOIN texts t ON t.id = m." + name, "m.id", "t.value"})
	}
	return list
}
