package lab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResultsAreWrittenSortedByCase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	t.Setenv("LAB_RESULTS", path)
	r := &results{kernel: "6.1"}
	t.Run("run", func(t *testing.T) {
		r.watch(t, "b", func() (string, string) { return outcome([]Row{{Counting: "tracepoint"}, {Peer: "inferred"}}) })
		t.Run("missing", func(t *testing.T) {
			r.watch(t, "a", func() (string, string) { return "", "no SCTP" })
			t.SkipNow()
		})
	})
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []Result
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := []Result{{"a", "6.1", Skipped, "no SCTP"}, {"b", "6.1", Inferred, "tracepoint"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
