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
	w := newWorld(t, lab.New(t, true))
	w.later.until(time.Now().Add(3 * time.Second)) // caches fill
	before, err := usageOf(w.Daemon.Pid())
	if err != nil {
		t.Fatal(err)
	}
	w.run(newPlan(seed, total, chosenKinds(t), w.plugins()), total)
	w.Traffic.finish()
	w.checkStores()
	w.checkGaps()
	w.checkUsage(before)
	w.checkRemains()
	w.checkStores() // a row that comes late, or twice, is found here
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

func chosenKinds(t *testing.T) []kind {
	t.Helper()
	only := os.Getenv("CHAOS_ONLY")
	if only == "" {
		return allKinds()
	}
	var kinds []kind
	for word := range strings.SplitSeq(only, ",") {
		if !slices.Contains(allKinds(), kind(word)) {
			t.Fatalf("CHAOS_ONLY: there is no %q; there are %v", word, allKinds())
		}
		kinds = append(kinds, kind(word))
	}
	return kinds
}
