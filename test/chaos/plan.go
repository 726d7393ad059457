package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is something that can be done to a world.
type Kind string

// What can be done.
const (
	KillPlugin   Kind = "kill-plugin"   // SIGKILL
	StopPlugin   Kind = "stop-plugin"   // SIGSTOP, and SIGCONT later
	BurstPlugin  Kind = "burst-plugin"  // SIGSTOP and SIGCONT many times: it runs a quarter of the time
	StarvePlugin Kind = "starve-plugin" // no more memory than it has, by RLIMIT_DATA
	ChokePlugin  Kind = "choke-plugin"  // no file can be opened any more, by RLIMIT_NOFILE
	KillHost     Kind = "kill-host"     // SIGKILL, and a start after a pause in which traffic goes on
	RestartHost  Kind = "restart-host"  // SIGTERM, and a start after a pause in which nobody counts
	FillDisk     Kind = "fill-disk"     // to the last block
	ServerAway   Kind = "server-away"   // the SQL server ends at once, and comes back
)

// Kinds lists all of them.
func Kinds() []Kind {
	return []Kind{
		KillPlugin, StopPlugin, BurstPlugin, StarvePlugin, ChokePlugin, KillHost, RestartHost, FillDisk, ServerAway,
	}
}

// longest is how long each kind lasts at most; the others are over at once.
func longest(k Kind) time.Duration {
	switch k {
	case StopPlugin, FillDisk, ServerAway:
		return 12 * time.Second
	case ChokePlugin, StarvePlugin, KillHost:
		return 6 * time.Second
	case BurstPlugin, RestartHost:
		return 3 * time.Second
	}
	return 0
}

// hung is long enough for the host to take a stopped plugin for hung, and to end it.
const hung = 45 * time.Second

// Move is one step of a plan.
type Move struct {
	Kind   Kind
	Plugin string        // for kinds that concern one
	After  time.Duration // since the step before
	For    time.Duration // until it is undone
}

// String is the step in one line.
func (m Move) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", m.Kind, m.Plugin))
}

// Plan is what is done to a world, in order. Steps overlap: one is undone while others are under way.
type Plan []Move

// NewPlan chooses as many steps as fit into so long when none takes any time itself. The same arguments give the same plan.
// Kinds take turns in a random order, so that a short plan has most of them.
func NewPlan(seed uint64, total time.Duration, kinds []Kind, plugins []string) Plan {
	random := rand.New(rand.NewPCG(seed, 0))
	var plan Plan
	var round []Kind
	for at := time.Duration(0); ; {
		after := 200*time.Millisecond + time.Duration(random.Int64N(int64(3*time.Second)))
		if at += after; at >= total || len(kinds) == 0 {
			return plan
		}
		if len(round) == 0 {
			round = slices.Clone(kinds)
			random.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		m := Move{Kind: round[0], After: after}
		round = round[1:]
		if strings.HasSuffix(string(m.Kind), "-plugin") {
			m.Plugin = plugins[random.IntN(len(plugins))]
		}
		if most := longest(m.Kind); most > 0 {
			m.For = most/20 + time.Duration(random.Int64N(int64(most)))
		}
		if m.Kind == StopPlugin && total >= 3*time.Minute && random.IntN(4) == 0 {
			m.For = hung
		}
		plan = append(plan, m)
	}
}
