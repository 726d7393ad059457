package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/picosnitch/picosnitch/"

// rank is the order of the stages: a package may import what has a lower rank, never an equal or higher one.
func rank(path string) int {
	order := []string{
		"sdk/proto", "sdk", "sdk/dial", "host/internal/config", "host/internal/home", "host/internal/rights", "host/internal/pidfd", "host/internal/capture", "host/internal/canary", "host/internal/unit",
		"host/internal/packages", "host/internal/helper", "host/internal/library", "host/internal/marks", "host/internal/identity", "host/internal/name", "host/internal/reverse",
		"host/internal/record", "host/internal/live", "host/internal/journal", "host/internal/supervisor", "host/internal/api",
		"host/internal/doctor", "host",
	}
	for i, stage := range order {
		if path == module+stage || (stage != "host" && stage != "sdk" && strings.HasPrefix(path, module+stage+"/")) {
			return i
		}
	}
	return -1
}

// forbidden must never be linked into root's daemon.
func forbidden() []string {
	return []string{"database/sql", "modernc.org/", "github.com/jackc/", "github.com/go-sql-driver/", "github.com/godbus/", "github.com/charmbracelet/"}
}

type listed struct {
	ImportPath string
	Name       string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, pattern string) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Imports,Deps", pattern).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestStagesKnowOnlyEarlierStages(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, module+"host/...") {
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) || sameStage(p.ImportPath, imported) {
				continue
			}
			if from, to := rank(p.ImportPath), rank(imported); from <= to || to < 0 {
				t.Errorf("%s imports %s: a later stage, or one without a rank", p.ImportPath, imported)
			}
		}
	}
}

// sameStage lets the packages inside one stage know each other.
func sameStage(a, b string) bool { return rank(a) == rank(b) && rank(a) >= 0 && a != b }

func TestHostLinksNoDriverAndNoInterface(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, module+"host") {
		for _, dep := range p.Deps {
			for _, bad := range forbidden() {
				if dep == bad || strings.HasPrefix(dep, bad) {
					t.Errorf("%s links %s", p.ImportPath, dep)
				}
			}
		}
	}
}

func TestSDKImportsNothingOfOurs(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, module+"sdk/...") {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, module) && !strings.HasPrefix(imported, module+"sdk") {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

// net/rpc looks methods up by name, so that the linker keeps every method of every type: megabytes of every plugin's memory.
func TestNoPluginLinksWhatKeepsEveryMethod(t *testing.T) {
	t.Parallel()
	for _, p := range append(list(t, module+"plugins/..."), list(t, module+"examples/...")...) {
		if p.Name == "main" && slices.Contains(p.Deps, "net/rpc") {
			t.Errorf("%s links net/rpc: does it import sdk/dial, or go-plugin?", p.ImportPath)
		}
	}
}
