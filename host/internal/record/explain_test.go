package record

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewHashWaitsForWhoseFileItIs(t *testing.T) {
	t.Parallel()
	options := everything()
	words := make(chan string, 1)
	asked := map[string]bool{}
	options.Explain = func(path string, sha256 []byte) <-chan string {
		asked[path] = len(sha256) == 32
		return words
	}
	h := newHost(t, options)
	curl := func(hash byte) []string {
		return h.meet(alone(hashed(process(1, 1000, "/usr/bin/curl", "curl", "c"), hash)))
	}
	curl(1)
	if len(asked) != 0 {
		t.Errorf("asked about a first hash: %v", asked)
	}
	if got := curl(2); got != nil {
		t.Errorf("given out before it was explained: %q", got)
	}
	if !asked["/usr/bin/curl"] {
		t.Error("nobody was asked")
	}
	words <- "curl 8 owns it and its checksum matches"
	want := []string{"NEW_SHA256 New sha256: /usr/bin/curl (curl 8 owns it and its checksum matches)"}
	if diff := cmp.Diff(want, curl(2)); diff != "" {
		t.Error(diff)
	}
	curl(3)
	h.now = h.now.Add(explainTime)
	if diff := cmp.Diff([]string{"NEW_SHA256 New sha256: /usr/bin/curl"}, curl(3)); diff != "" {
		t.Errorf("without an answer: %s", diff)
	}
}

func TestNewHashNeedsNoExplanation(t *testing.T) {
	t.Parallel()
	options := everything()
	options.Explain = func(string, []byte) <-chan string { return nil }
	h := newHost(t, options)
	for i, want := range [][]string{{"NEW_EXECUTABLE picosnitch: curl /usr/bin/curl"}, {"NEW_SHA256 New sha256: /usr/bin/curl"}} {
		got := h.meet(alone(hashed(process(1, 1000, "/usr/bin/curl", "curl", "c"), byte(i))))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
