package chaos

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab"
)

// TestChaos ends with every store equal to the truth, whatever was done meanwhile.
func TestChaos(t *testing.T) {
	seed, total := chosenSeed(t), chosenTime(t)
	t.Logf("CHAOS_SEED=%d CHAOS_MINUTES=%v", seed, total.Minutes())
	w := NewWorld(t, lab.New(t, true))
	w.later.until(time.Now().Add(3 * time.Second)) // caches fill
	before, err := UsageOf(w.Daemon.Pid())
	if err != nil {
		t.Fatal(err)
	}
	w.Run(NewPlan(seed, total, chosenKinds(t), w.plugins()), total)
	w.Traffic.Finish()
	w.CheckStores()
	w.CheckGaps()
	w.CheckUsage(before)
	w.CheckRemains()
	w.CheckStores() // a row that comes late, or twice, is found here
}

func chosenSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CHAOS_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED: %v; give a whole number", err)
	}
	return seed
}

func chosenTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("CHAOS_MINUTES")
	if text == "" {
		return time.Minute
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil || minutes <= 0 {
		t.Fatalf("CHAOS_MINUTES=%s: give a number of minutes", text)
	}
	return time.Duration(minutes * float64(time.Minute))
}

func chosenKinds(t *testing.T) []Kind {
	t.Helper()
	only := os.Getenv("CHAOS_ONLY")
	if only == "" {
		return Kinds()
	}
	var kinds []Kind
	for word := range strings.SplitSeq(only, ",") {
		if !slices.Contains(Kinds(), Kind(word)) {
			t.Fatalf("CHAOS_ONLY: there is no %q; there are %v", word, Kinds())
		}
		kinds = append(kinds, Kind(word))
	}
	return kinds
}
