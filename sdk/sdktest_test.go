package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestASinkTakesLessThanTwentyLines counts those of the example, which the guide shows as well.
func TestASinkTakesLessThanTwentyLines(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sink, _ := strings.Cut(string(text), "\ntype counter struct")
	sink, _, ok := strings.Cut(sink, "\n// The main function")
	if lines := strings.Count(sink, "\n") + 1; !ok || lines >= 20 {
		t.Errorf("the example takes %d lines", lines)
	}
	if !strings.Contains(string(guide), sink) {
		t.Error("docs/plugins.md shows another example")
	}
}

// TestAnyBinaryCanBeHeldToTheContract runs the command that is there for plugins in other languages.
func TestAnyBinaryCanBeHeldToTheContract(t *testing.T) {
	t.Parallel()
	conform := filepath.Join(t.TempDir(), "conform")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", conform, "./sdktest/conform").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plugin := filepath.Join(t.TempDir(), "plugin")
	script := "#!/bin/sh\n" + asPlugin + "=$1; export " + asPlugin + "; shift; exec '" + os.Args[0] + "' \"$@\"\n"
	if err := os.WriteFile(plugin, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	const part = "takes_a_batch_whose_predecessors_are_lost"
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-plugin", plugin, "-run", part, "store"}, 0, "--- PASS: conform/" + part},
		{[]string{"-plugin", plugin, "-run", part, "insists"}, 1, "--- FAIL: conform/" + part},
		{[]string{"-plugin", "/nonexistent"}, 1, "no such file"},
		{[]string{"-plugin", plugin, "-config", "[hunter2"}, 2, "-config is not a JSON object"},
		{nil, 2, "-plugin is missing"},
	} {
		cmd := exec.CommandContext(t.Context(), conform, test.args...)
		out, _ := cmd.CombinedOutput() // the exit status is looked at below
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.says) {
			t.Errorf("conform %q: status %d, want %d and %q:\n%s", test.args, code, test.code, test.says, out)
		}
	}
}
