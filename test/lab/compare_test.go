package lab

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func exampleKey() Key {
	return Key{
		Process: Identity{"/lab/client", "aa", "client", "client -a"}, Parent: Identity{"/lab/test", "bb", "test", "test"},
		Pid: 10, UID: 1000, Netns: 4026532000, Protocol: "tcp", Laddr: "10.0.0.1", Lport: 40000, Raddr: "10.0.0.2", Rport: 80,
	}
}

func exampleRow(id string, change func(*Row)) Row {
	r := Row{ID: id, Key: exampleKey(), Sums: Sums{Sent: 50, Received: 5, Sends: 1, Receives: 1}, Direction: "out", Result: "open"}
	change(&r)
	return r
}

func TestCompareFindsEveryDifference(t *testing.T) {
	t.Parallel()
	same := func(*Row) {}
	want := Expectation{Key: exampleKey(), Sums: Sums{Sent: 100, Received: 10, Sends: 2, Receives: 2}}
	change := func(f func(*Expectation)) []Expectation {
		e := want
		f(&e)
		return []Expectation{e}
	}
	two := []Row{exampleRow("1", same), exampleRow("2", same)}
	grandparent := Identity{Exe: "/sbin/init"}
	for name, c := range map[string]struct {
		want []Expectation
		got  []Row
		said []string // in the table; none: equal
	}{
		"sum of two windows":    {[]Expectation{want}, two, nil},
		"nothing stored":        {[]Expectation{want}, nil, []string{"row", "none"}},
		"one window missing":    {[]Expectation{want}, two[:1], []string{"Sent", "100", "50", "Receives"}},
		"one row twice":         {[]Expectation{want}, []Row{two[0], two[1], two[1]}, []string{"twice: 2", "150"}},
		"row of nobody":         {nil, two, []string{"EXPECTED", "none", "Sent:100"}},
		"optional and absent":   {change(func(e *Expectation) { e.Optional, e.Sums = true, Sums{} }), nil, nil},
		"lower bound":           {change(func(e *Expectation) { e.AtLeast, e.Sums = true, Sums{Sent: 99} }), two, nil},
		"below lower bound":     {change(func(e *Expectation) { e.AtLeast, e.Sums = true, Sums{Sent: 101} }), two, []string{"101", "100"}},
		"empty calls may count": {change(func(e *Expectation) { e.Empty, e.Sums.Sends = 1, 1 }), two, nil},
		"empty calls may not":   {change(func(e *Expectation) { e.Empty, e.Sums.Sends = 1, 2 }), two, nil},
		"too many calls":        {change(func(e *Expectation) { e.Sums.Sends = 1 }), two, []string{"Sends"}},
		"other direction":       {change(func(e *Expectation) { e.Direction = "in" }), two, []string{"direction", "in", "[out]"}},
		"result seen":           {change(func(e *Expectation) { e.Result = "open" }), two, nil},
		"other grandparent":     {change(func(e *Expectation) { e.Grandparent = &grandparent }), two, []string{"grandparent", "/sbin/init"}},
		"expectation in two parts": {[]Expectation{
			{Key: exampleKey(), Sums: Sums{Sent: 60, Sends: 1}}, {Key: exampleKey(), Sums: Sums{Sent: 40, Received: 10, Sends: 1, Receives: 2}},
		}, two, nil},
		"other hash": {[]Expectation{want}, []Row{exampleRow("1", func(r *Row) { r.Key.Process.SHA256, r.Sums = "cc", want.Sums })},
			[]string{"most similar", `sha256 "cc" instead of "aa"`}},
		"peers folded": {change(func(e *Expectation) { e.AnyPeer = true }), []Row{
			exampleRow("1", func(r *Row) { r.Key.Raddr, r.Key.Rport = "", -1 }), exampleRow("2", same),
		}, nil},
		"folded into rows of nobody": {change(func(e *Expectation) { e.Folded = true }), []Row{
			exampleRow("1", func(r *Row) { r.Key.Laddr, r.Key.Lport, r.Key.Protocol = "", -1, "protocol 0" }),
			exampleRow("2", func(r *Row) { r.Key = Key{Netns: r.Key.Netns} }),
		}, nil},
		"folded elsewhere": {change(func(e *Expectation) { e.Folded = true }), []Row{
			two[0], exampleRow("2", func(r *Row) { r.Key = Key{Netns: 1} }),
		}, []string{"Sent", "50"}},
		"calls not compared":  {change(func(e *Expectation) { e.AnyCalls, e.Sums.Sends = true, 9 }), two, nil},
		"bytes still are":     {change(func(e *Expectation) { e.AnyCalls, e.Sums.Sent = true, 9 }), two, []string{"Sent", "9"}},
		"bytes not compared":  {change(func(e *Expectation) { e.AnyBytes, e.Sums = true, Sums{Sent: 1} }), two, nil},
		"states not compared": {change(func(e *Expectation) { e.AnyStates, e.Sums.Connects = true, 7 }), two, nil},
		"connects are":        {change(func(e *Expectation) { e.Sums.Connects = 7 }), two, []string{"Connects", "7"}},
		"any address": {change(func(e *Expectation) { e.AnyAddress = true }), []Row{
			exampleRow("1", func(r *Row) { r.Key.Laddr, r.Key.Raddr = "", "" }), exampleRow("2", same),
		}, nil},
		"copy in a tunnel": {[]Expectation{want}, append(two[:2:2], exampleRow("3", func(r *Row) { r.Layer = "tunnel" })), nil},
		"frames are rows of their own": {[]Expectation{want}, append(two[:2:2], exampleRow("3", func(r *Row) { r.Key.Packet = true })),
			[]string{"none", "Sent:50"}},
		"folded too few": {change(func(e *Expectation) { e.AnyPeer = true }), two[:1], []string{"Sent", "50"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := compare(c.want, c.got)
			if len(c.said) == 0 && len(got) > 0 {
				t.Errorf("differences where there are none:\n%s", table(got))
			}
			if len(c.said) > 0 && len(got) == 0 {
				t.Error("no difference found")
			}
			for _, word := range c.said {
				if !strings.Contains(table(got), word) {
					t.Errorf("the table does not say %q:\n%s", word, table(got))
				}
			}
		})
	}
}

func TestCommandLineIsQuotedAndEscaped(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`/bin/x -a --b=c,d`:    {"/bin/x", "-a", "--b=c,d"},
		`x '' 'two words'`:     {"x", "", "two words"},
		`x 'it'"'"'s'`:         {"x", "it's"},
		`x 'grün' '\xff'`:      {"x", "grün", "\xff"},
		`x 'a\\b' 'c\x0ad'`:    {"x", `a\b`, "c\nd"},
		`x '\xe2\x80\xaegnp'`:  {"x", "\u202egnp"},
		`x 'a;b' '$(c)' 'd>e'`: {"x", "a;b", "$(c)", "d>e"},
	} {
		if got := commandLine(args); got != want {
			t.Errorf("%q: %s, not %s", args, got, want)
		}
	}
}

func TestRowsAreReadFromADatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snitch.db")
	if rows, err := readRows(t.Context(), path, Filter{}); err != nil || rows != nil {
		t.Fatalf("no file yet: %v, %v", rows, err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`PRAGMA journal_mode = wal; CREATE TABLE connections (host_id, epoch, seq INTEGER,
		exe, sha256, name, cmdline, pexe, psha256, pname, pcmdline, gexe, gsha256, gname, gcmdline,
		pid, uid, netns, protocol, laddr, lport, raddr, rport,
		send, recv, sends, receives, connects, accepts, failures, listens, direction, result, peer, counting, layer, exe_scope);
	INSERT INTO connections VALUES ('01', '02', 3, '/lab/a', 'h', 'a', 'a', '/p', 'ph', 'p', 'p', '', '', '', '',
		7, 0, 99, 6, '10.0.0.1', 1, '10.0.0.2', 2, 10, 20, 1, 2, 1, 0, 0, 0, 'out', 'refused', 'exact', 'tracepoint', 'socket', ''),
		('01', '02', 4, '/other', '', '', '', '', '', '', '', '', '', '', '', 8, 0, 98, 17, '', 0, '', -1, 1, 1, 1, 1, 0, 0, 0, 0, 'in', 'open', 'exact', 'tracepoint', 'socket', '')`)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got, err := readRows(t.Context(), path, Filter{ExePrefix: "/lab/", Namespaces: []uint64{97}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{{
		ID: "01/02/3", Sums: Sums{10, 20, 1, 2, 1, 0, 0, 0}, Direction: "out", Result: "refused", Peer: "exact", Counting: "tracepoint", Layer: "socket",
		Key: Key{
			Process: Identity{"/lab/a", "h", "a", "a"}, Parent: Identity{"/p", "ph", "p", "p"}, Pid: 7, Netns: 99,
			Protocol: "tcp", Laddr: "10.0.0.1", Lport: 1, Raddr: "10.0.0.2", Rport: 2,
		},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err = readRows(t.Context(), path, Filter{ExePrefix: "/none/", Namespaces: []uint64{97, 98}}); err != nil || len(got) != 1 {
		t.Errorf("by namespace: %v, %v", got, err)
	}
}
