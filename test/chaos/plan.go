package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is something that can be done to a world.
type kind string

// What can be done.
const (
	killPlugin   kind = "kill-plugin"   // SIGKILL
	stopPlugin   kind = "stop-plugin"   // SIGSTOP, and SIGCONT later
	burstPlugin  kind = "burst-plugin"  // SIGSTOP and SIGCONT many times: it runs a quarter of the time
	starvePlugin kind = "starve-plugin" // no more memory than it has, by RLIMIT_DATA
	chokePlugin  kind = "choke-plugin"  // no file can be opened any more, by RLIMIT_NOFILE
	killHost     kind = "kill-host"     // SIGKILL, and a start after a pause in which traffic goes on
	restartHost  kind = "restart-host"  // SIGTERM, and a start after a pause in which nobody counts
	fillDisk     kind = "fill-disk"     // to the last block
	serverAway   kind = "server-away"   // the SQL server ends at once, and comes back
)

// allKinds lists all of them.
func allKinds() []kind {
	return []kind{
		killPlugin, stopPlugin, burstPlugin, starvePlugin, chokePlugin, killHost, restartHost, fillDisk, serverAway,
	}
}

// longest is how long each kind lasts at most; the others are over at once.
func longest(k kind) time.Duration {
	switch k {
	case stopPlugin, fillDisk, serverAway:
		return 12 * time.Second
	case chokePlugin, starvePlugin, killHost:
		return 6 * time.Second
	case burstPlugin, restartHost:
		return 3 * time.Second
	}
	return 0
}

// hung is long enough for the host to take a stopped plugin for hung, and to end it.
const hung = 45 * time.Second

// move is one step of a plan.
type move struct {
	Kind   kind
	Plugin string        // for kinds that concern one
	After  time.Duration // since the step before
	For    time.Duration // until it is undone
}

// String is the step in one line.
func (m move) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", m.Kind, m.Plugin))
}

// plan is what is done to a world, in order. Steps overlap: one is undone while others are under way.
type plan []move

// newPlan chooses as many steps as fit into so long when none takes any time itself. The same arguments give the same plan.
// Kinds take turns in a random order, so that a short plan has most of them.
func newPlan(seed uint64, total time.Duration, kinds []kind, plugins []string) plan {
	random := rand.New(rand.NewPCG(seed, 0))
	var all plan
	var round []kind
	for at := time.Duration(0); ; {
		after := 200*time.Millisecond + time.Duration(random.Int64N(int64(3*time.Second)))
		if at += after; at >= total || len(kinds) == 0 {
			return all
		}
		if len(round) == 0 {
			round = slices.Clone(kinds)
			random.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		m := move{Kind: round[0], After: after}
		round = round[1:]
		if strings.HasSuffix(string(m.Kind), "-plugin") {
			m.Plugin = plugins[random.IntN(len(plugins))]
		}
		if most := longest(m.Kind); most > 0 {
			m.For = most/20 + time.Duration(random.Int64N(int64(most)))
		}
		if m.Kind == stopPlugin && total >= 3*time.Minute && random.IntN(4) == 0 {
			m.For = hung
		}
		all = append(all, m)
	}
}
