package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/test/lab"
)

// slack is how long before and after a deed a gap of it may reach: a window, a start, and the delays of a loaded machine.
const slack = 15 * time.Second

// causes are the deeds that justify a gap, by its reason. A reason that is not here is never justified.
func causes(reason string) []kind {
	switch reason {
	case "host-down":
		return []kind{restartHost}
	case "unclean-stop":
		return []kind{killHost}
	case "hook-missing": // what this kernel does not show is told at every start
		return []kind{start, restartHost, killHost}
	case "journal-corrupt":
		return []kind{corrupt}
	}
	return nil
}

// justified tells whether a gap has a reason among the deeds, and lies in the time of one.
func justified(g lab.Gap, deeds []*deed) bool {
	for _, d := range deeds {
		if !slices.Contains(causes(g.Reason), d.Kind) {
			continue
		}
		to := d.To
		if to.IsZero() {
			to = time.Now()
		}
		if g.Start >= d.From.Add(-slack).UnixNano() && g.End <= to.Add(slack).UnixNano() {
			return true
		}
	}
	return false
}

// unjustified gives a line for each gap that nothing explains. What another process of the machine did (directory is where
// ours lie) is not this test's.
func unjustified(store string, gaps []lab.Gap, deeds []*deed, directory string) []difference {
	var out []difference
	for _, g := range gaps {
		stranger := g.Exe != "" && !strings.HasPrefix(g.Exe, directory+"/")
		if !stranger && !justified(g, deeds) {
			out = append(out, difference{store, "gap", g.Reason, "a deed that explains it", describe(g)})
		}
	}
	return out
}

func describe(g lab.Gap) string {
	at := func(ns int64) string { return time.Unix(0, ns).Format("15:04:05.000") }
	text := fmt.Sprintf("%s to %s: %s", at(g.Start), at(g.End), g.Cause)
	if g.Last > 0 {
		text += fmt.Sprintf(", records %d to %d of %s", g.First, g.Last, g.Epoch)
	}
	if g.Events+g.Sent+g.Received > 0 {
		text += fmt.Sprintf(", %d events, %d bytes sent, %d received", g.Events, g.Sent, g.Received)
	}
	return text
}

// span is a time in which something moved that nobody saw.
type span struct{ from, to time.Time }

// uncovered gives a line for each such time that no gap tells of.
func uncovered(store string, gaps []lab.Gap, blind []span) []difference {
	var out []difference
	for _, s := range blind {
		covers := func(g lab.Gap) bool {
			return g.Reason == "host-down" && g.Start <= s.from.UnixNano() && g.End >= s.to.UnixNano()
		}
		if !slices.ContainsFunc(gaps, covers) {
			at := fmt.Sprintf("host-down, %s to %s", s.from.Format("15:04:05.000"), s.to.Format("15:04:05.000"))
			out = append(out, difference{store, "host", "gap", at, "none"})
		}
	}
	return out
}
