package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/picosnitch/picosnitch/test/lab"
)

// program is a generator process as every store can tell it from the others.
type program struct {
	Exe, Cmdline string
	UID          int
}

// moved is what it handed over and took.
type moved struct{ Sent, Received uint64 }

// entry is one row of a store.
type entry struct {
	ID string // host, epoch and sequence; empty where a store has none
	program
	moved
}

// difference is one thing in which a store is not the truth.
type difference struct {
	Store, Program, Field, Want, Got string
}

// truthOf sums up what generators have said.
func truthOf(want []lab.Expectation) map[program]moved {
	truth := map[program]moved{}
	for _, e := range want {
		p := program{Exe: e.Key.Process.Exe, Cmdline: e.Key.Process.Cmdline, UID: e.Key.UID}
		m := truth[p]
		truth[p] = moved{m.Sent + e.Sums.Sent, m.Received + e.Sums.Received}
	}
	return truth
}

// differencesOf compares a store's rows with the truth; none means equal to the byte, and no record twice.
func differencesOf(store string, truth map[program]moved, rows []entry) []difference {
	var out []difference
	sums, seen := map[program]moved{}, map[string]bool{}
	for _, r := range rows {
		if r.ID != "" && seen[r.ID] {
			out = append(out, difference{store, name(r.program), "record", "once", "twice: " + r.ID})
		}
		seen[r.ID] = true
		m := sums[r.program]
		sums[r.program] = moved{m.Sent + r.Sent, m.Received + r.Received}
	}
	for p, want := range truth {
		got := sums[p]
		if got.Sent != want.Sent {
			out = append(out, difference{store, name(p), "sent", fmt.Sprint(want.Sent), fmt.Sprint(got.Sent)})
		}
		if got.Received != want.Received {
			out = append(out, difference{store, name(p), "received", fmt.Sprint(want.Received), fmt.Sprint(got.Received)})
		}
	}
	for p, got := range sums {
		if _, ok := truth[p]; !ok {
			out = append(out, difference{store, name(p), "program", "none", fmt.Sprintf("%+v", got)})
		}
	}
	slices.SortFunc(out, func(a, b difference) int {
		return cmp.Or(strings.Compare(a.Store, b.Store), strings.Compare(a.Program, b.Program), strings.Compare(a.Field, b.Field))
	})
	return out
}

// excess are the differences that no loss explains: a record twice, bytes or programs that never were.
func excess(store string, truth map[program]moved, rows []entry) []difference {
	capped, sums := map[program]moved{}, map[program]moved{}
	for _, r := range rows {
		m := sums[r.program]
		sums[r.program] = moved{m.Sent + r.Sent, m.Received + r.Received}
	}
	for p, want := range truth {
		capped[p] = moved{min(want.Sent, sums[p].Sent), min(want.Received, sums[p].Received)}
	}
	return differencesOf(store, capped, rows)
}

func name(p program) string {
	_, arguments, _ := strings.Cut(p.Cmdline, " ")
	return strings.TrimSpace(fmt.Sprintf("%s %s (uid %d)", p.Exe[strings.LastIndex(p.Exe, "/")+1:], arguments, p.UID))
}

// table prints differences for a person.
func table(differences []difference) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STORE\tPROGRAM\tFIELD\tEXPECTED\tGOT")
	for i, d := range differences {
		if i == 40 {
			fmt.Fprintf(w, "and %d more\t\t\t\t\n", len(differences)-i)
			break
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Store, d.Program, d.Field, d.Want, d.Got)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}
