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
	for _, name := range strings.Fields(`sends receives connects accepts failures listens lport rport family protocol
folded_peers mapped netns ifindex socket icmp_type icmp_code existing
candidates truncated`) {
		list = append(list, column{Column: named(name), base: name, value: "f." + name})
	}
	for _, name := range []string{"laddr", "raddr"} {
		list = append(list, column{named(name), name, addressTable, "a.id", "a.value"})
	}
	list = append(list, column{named("domain"), "domain", "texts t", "t.id", "t.value"})
	for name, word := range map[string]func(int32) string{
		"direction":     func(n int32) string { return sdk.DirectionWord(wire.Direction(n)) },
		"result":        func(n int32) string { return sdk.ResultWord(wire.Result(n)) },
		"layer":         func(n int32) string { return sdk.LayerWord(wire.Layer(n)) },
		"peer":          func(n int32) string { return sdk.PeerWord(wire.Peer(n)) },
		"domain_source": func(n int32) string { return sdk.NameSourceWord(wire.NameSource(n)) },
		"attribution":   func(n int32) string { return sdk.AttributionWord(wire.Attribution(n)) },
		"counting":      func(n int32) string { return sdk.CountingWord(wire.Counting(n)) },
	} {
		list = append(list, column{Column: named(name), base: name, value: words("f."+name, word)})
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
		prefix, base := who[0], who[1]
		for _, name := range strings.Fields(`name tty kernel uid pid inner_pid start_time exec_id euid gid loginuid session
unit_verified pid_ns mnt_ns`) {
			list = append(list, column{named(prefix + name), base, "processes p", "p.id", "p." + name})
		}
		for _, name := range strings.Fields("exe sha256 exe_scope hash_status script package superblock dev inode ctime size") {
			list = append(list, column{named(prefix + name), base, "processes p JOIN executables x ON x.id = p.executable",
				"p.id", "x." + name})
		}
		for _, name := range strings.Fields("cmdline claimed_cmdline cgroup unit container boot_id") {
			list = append(list, column{named(prefix + name), base, "processes p JOIN texts t ON t.id = p." + name,
				"p.id", "t.value"})
		}
	}
	return list
}
