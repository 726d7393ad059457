package sdktest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLinesAreCountedInEveryFileThatMatches(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	if err := errors.Join(write("a.log", "flow\nother\nflow\n"), write("a.log.1", "flow\nhalf a flow"), write("b.txt", "flow\n")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		pattern, word string
		want          int
	}{{"a.log*", "flow", 4}, {"a.log*", "", 5}, {"a.log", "flow", 2}, {"none", "", 0}} {
		if n, err := CountLines(test.pattern, test.word)(dir); err != nil || n != test.want {
			t.Errorf("%q with %q: %d, %v, want %d", test.pattern, test.word, n, err, test.want)
		}
	}
	if _, err := CountLines("[", "")(dir); err == nil {
		t.Error("a broken pattern is taken")
	}
}
