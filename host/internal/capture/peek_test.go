package capture

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestALookTakesNothingFromTheWindow(t *testing.T) {
	o := testOptions(t, "look")
	k := open(t, o)
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 77)
	to.read()
	seen := 0
	for range 2 {
		w, err := k.Peek(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if w.End.Boot < w.Start.Boot || w.Start.Boot == 0 {
			t.Errorf("from %v to %v", w.Start, w.End)
		}
		for _, f := range w.Flows {
			if f.Local.Port() == to.port && f.Received == 77 {
				seen++
			}
		}
	}
	if seen != 2 {
		t.Errorf("seen in %d of 2 looks", seen)
	}
	if _, received, _, receives := total(finish(t, k).flows(to.port)); received != 77 || receives != 1 {
		t.Errorf("%d bytes in %d calls are left", received, receives)
	}
}

func TestProcessKnowsTheScriptThatWasExecuted(t *testing.T) {
	k := open(t, testOptions(t, "script"))
	script := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(script, []byte("#!/bin/sh -e\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	plain, interpreted := exec.Command("/bin/true", script), exec.Command(script, "argument")
	for _, c := range []*exec.Cmd{plain, interpreted} {
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
	}
	s := finish(t, k)
	if p := s.executed(t, plain.Process.Pid); p.Script.Value != "" {
		t.Errorf("a program as script %q", p.Script.Value)
	}
	p := s.executed(t, interpreted.Process.Pid)
	if string(p.Script.Value) != script || p.Script.Length != len(script) || !strings.HasSuffix(string(p.Path.Value), "sh") {
		t.Errorf("script %q run by %q", p.Script.Value, p.Path.Value)
	}
}
