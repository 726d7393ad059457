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
	found := script + "-env"
	if err := os.WriteFile(found, []byte("#!/usr/bin/env -S sh -e\nexec /bin/true\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	command := func(path string, args ...string) *exec.Cmd {
		c := exec.Command("/bin/true", args...)
		c.Path, c.Dir = path, filepath.Dir(script)
		return c
	}
	cases := []struct {
		command *exec.Cmd
		images  []string // end of the path of each program that the process executes
		scripts []string // that each of them runs
	}{
		{command("/bin/true", script), []string{"true"}, []string{""}},
		{command(script, "argument"), []string{"sh"}, []string{script}},
		{command("./hello"), []string{"sh"}, []string{script}},
		{command("../" + filepath.Base(filepath.Dir(script)) + "/hello"), []string{"sh"},
			[]string{filepath.Dir(script) + "/../" + filepath.Base(filepath.Dir(script)) + "/hello"}},
		{command(found, "argument"), []string{"env", "sh", "true"}, []string{found, found, ""}},
		{command("/usr/bin/env", "true", found), []string{"env", "true"}, []string{"", ""}},
	}
	for _, c := range cases {
		if err := c.command.Run(); err != nil {
			t.Fatal(err)
		}
	}
	s := finish(t, k)
	for _, c := range cases {
		images := s.images(c.command.Process.Pid)
		if len(images) != len(c.images) {
			t.Fatalf("%q: %d images", c.command.Args, len(images))
		}
		for i, p := range images {
			if string(p.Script.Value) != c.scripts[i] || p.Script.Length != len(c.scripts[i]) || !strings.HasSuffix(string(p.Path.Value), c.images[i]) {
				t.Errorf("%q: script %q run by %q, want %q by %q", c.command.Args, p.Script.Value, p.Path.Value, c.scripts[i], c.images[i])
			}
		}
	}
}
