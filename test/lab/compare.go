package lab

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
)

// group is everything that the database holds for one Key.
type group struct {
	sums                Sums
	rows                int
	grandparents        []Identity
	directions, results []string // distinct, in the order of the rows
	matched             bool
}

// compare gives one line for each difference between what must be there and what is; none means exact.
func compare(want []Expectation, got []Row) []Difference {
	groups, order, out := collect(got)
	for _, e := range merge(want) {
		found := find(e, groups, order)
		switch {
		case len(found) > 0:
			out = append(out, check(e, groups, found)...)
		case !e.Optional:
			out = append(out, missing(e, groups, order))
		}
	}
	for _, k := range order {
		if g := groups[k]; !g.matched {
			out = append(out, Difference{Key: k, Field: "row", Want: "none", Got: unwanted(k, g.sums, want)})
		}
	}
	return out
}

// Difference is one line of the table.
type Difference struct {
	Key              Key
	Field, Want, Got string
}

// String is the difference in one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s %s instead of %s", d.Key.Process.Name, d.Field, d.Got, d.Want)
}

func firstLine(differences []Difference) string {
	if len(differences) == 0 {
		return "the database could not be read"
	}
	return differences[0].String()
}

// collect sums rows by Key and reports every (host, epoch, sequence) that comes twice.
func collect(rows []Row) (map[Key]*group, []Key, []Difference) {
	groups := map[Key]*group{}
	var order []Key
	var out []Difference
	seen := map[string]bool{}
	for _, r := range rows {
		if r.Layer == "tunnel" || r.Layer == "interface" { // further copies of bytes that sockets have moved
			continue
		}
		if seen[r.ID] {
			out = append(out, Difference{Key: r.Key, Field: "id", Want: "once", Got: "twice: " + r.ID})
		}
		seen[r.ID] = true
		g, ok := groups[r.Key]
		if !ok {
			g = &group{}
			groups[r.Key] = g
			order = append(order, r.Key)
		}
		g.sums = g.sums.add(r.Sums)
		g.rows++
		g.grandparents = appendNew(g.grandparents, r.Grandparent)
		g.directions = appendNew(g.directions, r.Direction)
		g.results = appendNew(g.results, r.Result)
	}
	return groups, order, out
}

func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// merge adds up expectations of the same Key: a process may use one local port for the same peer twice.
func merge(want []Expectation) []Expectation {
	index := map[Key]int{}
	var out []Expectation
	for _, e := range want {
		i, ok := index[e.Key]
		if !ok {
			index[e.Key] = len(out)
			out = append(out, e)
			continue
		}
		out[i].Sums = out[i].Sums.add(e.Sums)
		out[i].Empty += e.Empty
		out[i].Optional = out[i].Optional && e.Optional
		out[i].AnyCalls = out[i].AnyCalls || e.AnyCalls
		out[i].AnyStates, out[i].AnyBytes = out[i].AnyStates || e.AnyStates, out[i].AnyBytes || e.AnyBytes
	}
	// The stricter one has the first claim on a row.
	slices.SortStableFunc(out, func(a, b Expectation) int { return a.latitude() - b.latitude() })
	return out
}

func (e Expectation) latitude() int {
	switch {
	case e.Folded:
		return 2
	case e.AnyPeer, e.AnyAddress:
		return 1
	}
	return 0
}

func (e Expectation) accepts(k Key) bool {
	switch {
	case e.Folded:
		nobody := k.Process == Identity{} && k.Netns == e.Key.Netns
		return nobody || k.Process == e.Key.Process && k.Parent == e.Key.Parent && k.Pid == e.Key.Pid && k.UID == e.Key.UID
	case e.AnyAddress:
		return k.Process == e.Key.Process && k.Parent == e.Key.Parent && k.Pid == e.Key.Pid && k.UID == e.Key.UID
	case e.AnyPeer:
		return k.withoutPeer() == e.Key.withoutPeer()
	}
	return k == e.Key
}

// find gives the keys of the rows that e accepts; nobody else gets them.
func find(e Expectation, groups map[Key]*group, order []Key) []Key {
	var found []Key
	for _, k := range order {
		if g := groups[k]; !g.matched && e.accepts(k) {
			g.matched = true
			found = append(found, k)
		}
	}
	return found
}

func (k Key) withoutPeer() Key {
	k.Raddr, k.Rport = "", -1
	return k
}

func check(e Expectation, groups map[Key]*group, found []Key) []Difference {
	var sums Sums
	var all group
	for _, k := range found {
		g := groups[k]
		sums = sums.add(g.sums)
		all.grandparents = append(all.grandparents, g.grandparents...)
		all.directions = append(all.directions, g.directions...)
		all.results = append(all.results, g.results...)
	}
	out := checkSums(e, sums)
	report := func(field, want string, ok bool, got any) {
		if want != "" && !ok {
			out = append(out, Difference{Key: e.Key, Field: field, Want: want, Got: fmt.Sprint(got)})
		}
	}
	report("direction", e.Direction, slices.Contains(all.directions, e.Direction), all.directions)
	report("result", e.Result, slices.Contains(all.results, e.Result), all.results)
	if e.Grandparent != nil {
		ok := len(slices.Compact(all.grandparents)) == 1 && all.grandparents[0] == *e.Grandparent
		report("grandparent", fmt.Sprintf("%+v", *e.Grandparent), ok, all.grandparents)
	}
	return out
}

// checkSums compares field by field. Calls may include the empty ones.
func checkSums(e Expectation, got Sums) []Difference {
	var out []Difference
	w, g := reflect.ValueOf(e.Sums), reflect.ValueOf(got)
	for i := range w.NumField() {
		field, want, have := w.Type().Field(i).Name, w.Field(i).Uint(), g.Field(i).Uint()
		high := want
		if field == "Sends" || field == "Receives" {
			high += e.Empty
		}
		if e.AtLeast {
			high = max(high, have)
		}
		if e.ignores(field) {
			continue
		}
		if have < want || have > high && (!e.Optional || i < 2) {
			out = append(out, Difference{Key: e.Key, Field: field, Want: fmt.Sprint(want), Got: fmt.Sprint(have)})
		}
	}
	return out
}

// ignores tells which sums are not compared.
func (e Expectation) ignores(field string) bool {
	switch field {
	case "Sent", "Received":
		return e.AnyBytes
	case "Sends", "Receives":
		return e.AnyBytes || e.AnyCalls
	}
	return e.AnyStates
}

// missing says how the most similar row differs, if there is one that nobody else expects: the likely culprit.
func missing(e Expectation, groups map[Key]*group, order []Key) Difference {
	best, fewest := Key{}, len(e.Key.fields())/2
	for _, k := range order {
		if n := len(e.Key.differences(k)); !groups[k].matched && n < fewest {
			best, fewest = k, n
		}
	}
	d := Difference{Key: e.Key, Field: "row", Want: fmt.Sprintf("%+v", e.Sums), Got: "none"}
	if best == (Key{}) {
		return d
	}
	groups[best].matched = true
	lines := e.Key.differences(best)
	if s := groups[best].sums; s != e.Sums {
		lines = append(lines, fmt.Sprintf("sums %+v", s))
	}
	d.Got = "most similar: " + strings.Join(lines, "; ")
	return d
}

// unwanted describes a row that nobody expects: what it holds, and how it differs from the most similar one that is expected.
func unwanted(k Key, sums Sums, want []Expectation) string {
	var best []string
	for i, e := range want {
		if lines := e.Key.differences(k); i == 0 || len(lines) < len(best) {
			best = lines
		}
	}
	return strings.Join(append([]string{fmt.Sprintf("%+v", sums)}, best...), "; ")
}

// fields lists a Key's fields by name.
func (k Key) fields() [][2]string {
	return [][2]string{
		{"exe", k.Process.Exe}, {"sha256", k.Process.SHA256}, {"name", k.Process.Name}, {"cmdline", k.Process.Cmdline},
		{"pexe", k.Parent.Exe}, {"psha256", k.Parent.SHA256}, {"pname", k.Parent.Name}, {"pcmdline", k.Parent.Cmdline},
		{"pid", fmt.Sprint(k.Pid)}, {"uid", fmt.Sprint(k.UID)}, {"netns", fmt.Sprint(k.Netns)}, {"protocol", k.Protocol}, {"packet", fmt.Sprint(k.Packet)},
		{"laddr", k.Laddr}, {"lport", fmt.Sprint(k.Lport)}, {"raddr", k.Raddr}, {"rport", fmt.Sprint(k.Rport)},
	}
}

// differences names the fields in which got differs from k.
func (k Key) differences(got Key) []string {
	var out []string
	have := got.fields()
	for i, f := range k.fields() {
		if f[1] != have[i][1] {
			out = append(out, fmt.Sprintf("%s %q instead of %q", f[0], have[i][1], f[1]))
		}
	}
	return out
}

// table prints differences for a person.
func table(differences []Difference) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPID\tFLOW\tFIELD\tEXPECTED\tGOT")
	for i, d := range differences {
		if i == 40 {
			fmt.Fprintf(w, "and %d more\t\t\t\t\t\n", len(differences)-i)
			break
		}
		flow := fmt.Sprintf("%s %s %d > %s %d", d.Key.Protocol, d.Key.Laddr, d.Key.Lport, d.Key.Raddr, d.Key.Rport)
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", d.Key.Process.Name, d.Key.Pid, flow, d.Field, d.Want, d.Got)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}
