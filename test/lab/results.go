package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// Result is how a case ended, as docs/coverage.md shows it.
type Result struct {
	Case   string `json:"case"`
	Kernel string `json:"kernel"`
	Result string `json:"result"` // Exact, Inferred, Gapped, Failed or Skipped
	Why    string `json:"why"`    // how bytes were counted, or what a gap, a failure or the kernel says
}

// The words of Result.Result.
const (
	Exact    = "exact"    // every row as the processes said
	Inferred = "inferred" // exact bytes; not every peer is known
	Gapped   = "gap"      // not counted, but said, and of whom
	Failed   = "fail"
	Skipped  = "skip" // the kernel does not have it, or the size is too small
)

// results collects them over a run.
type results struct {
	kernel string

	mu  sync.Mutex
	all []Result // guarded by mu
}

func newResults() (*results, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return &results{kernel: unix.ByteSliceToString(u.Release[:])}, nil
}

// watch notes how t ends. outcome is asked only of a test that passed.
func (r *results) watch(t *testing.T, name string, outcome func() (result, why string)) {
	t.Cleanup(func() {
		one := Result{Case: name, Kernel: r.kernel}
		one.Result, one.Why = outcome()
		switch {
		case t.Failed():
			one.Result = Failed
		case t.Skipped():
			one.Result = Skipped
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, one)
	})
}

// write stores them where LAB_RESULTS says, sorted by name.
func (r *results) write() error {
	path := os.Getenv("LAB_RESULTS")
	if path == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.all, func(a, b Result) int { return cmp.Compare(a.Case, b.Case) })
	raw, err := json.MarshalIndent(r.all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// outcome judges a case by the rows that were found right.
func outcome(rows []Row) (result, why string) {
	var countings []string
	result = Exact
	for _, row := range rows {
		if row.Counting != "" {
			countings = appendNew(countings, row.Counting)
		}
		if row.Peer == "inferred" || row.Peer == "folded" || row.Peer == "" && row.Key.Protocol == "udp" {
			result = Inferred
		}
	}
	slices.Sort(countings)
	return result, strings.Join(countings, ", ")
}

// Feature skips a case whose path this kernel does not have, by its name. LAB_MUST lists, separated by commas, what
// this run's kernel is known to have: that fails instead.
func (c *Case) Feature(name string, have bool) {
	c.Helper()
	c.why = "no " + name
	switch {
	case have:
		c.why = ""
	case slices.Contains(strings.Split(os.Getenv("LAB_MUST"), ","), name):
		c.Fatalf("this kernel has no %s, which LAB_MUST says it has", name)
	default:
		need.Skip(c, "this kernel has no "+name)
	}
}
