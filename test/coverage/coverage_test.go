package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/test/lab"
)

// labCases reads the names of all scenarios from the lab's source.
func labCases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../lab/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of the lab: %v", err)
	}
	var names []string
	for _, file := range files {
		if strings.Contains(file, "cases_plugins") {
			continue // a test of its own, about no way onto the network
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			list, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			array, ok := list.Type.(*ast.ArrayType)
			if !ok {
				return true
			}
			switch kind, ok := array.Elt.(*ast.Ident); {
			case !ok, kind.Name != "scenario" && kind.Name != "ownScenario":
				return true
			}
			for _, one := range list.Elts {
				name, err := strconv.Unquote(one.(*ast.CompositeLit).Elts[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
			return false
		})
	}
	slices.Sort(names)
	return names
}

func TestEveryCaseOfTheLabHasWordsOnce(t *testing.T) {
	t.Parallel()
	var worded []string
	for _, g := range groups() {
		for _, p := range g.paths {
			worded = append(worded, p.name)
		}
	}
	slices.Sort(worded)
	if d := cmp.Diff(labCases(t), worded); d != "" {
		t.Errorf("groups.go (-lab +words):\n%s", d)
	}
}

func TestThePageHasEveryCaseInItsOrder(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	var worded []string
	for _, g := range groups() {
		for _, p := range g.paths {
			worded = append(worded, p.name)
		}
	}
	if d := cmp.Diff(worded, readPage(string(raw)).cases); d != "" {
		t.Errorf("docs/coverage.md (-words +page), which make coverage writes:\n%s", d)
	}
}

func TestPublicScenariosAreShownByCasesOfTheLab(t *testing.T) {
	t.Parallel()
	if n := len(public()); n != 24 {
		t.Errorf("%d scenarios", n)
	}
	cases := labCases(t)
	for _, s := range public() {
		if len(s.cases) == 0 {
			t.Errorf("%s: no case", s.words)
		}
		for _, name := range s.cases {
			if !slices.Contains(cases, name) {
				t.Errorf("%s: the lab has no %s", s.words, name)
			}
		}
	}
}

// file writes results of a kernel: of all cases exact, but for changed.
func file(t *testing.T, kernel string, changed map[string]lab.Result) string {
	t.Helper()
	var list []lab.Result
	for _, g := range groups() {
		for _, p := range g.paths {
			r := lab.Result{Case: p.name, Kernel: kernel, Result: lab.Exact, Why: "tracepoint"}
			if c, ok := changed[p.name]; ok {
				r.Result, r.Why = c.Result, c.Why
			}
			if r.Result != "" {
				list = append(list, r)
			}
		}
	}
	raw, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCellsSayHowACaseEnded(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "coverage.md")
	old := file(t, "6.1.0-56-amd64", map[string]lab.Result{
		"tcp4": {Result: lab.Exact, Why: "fexit, tracepoint"}, "tcp6": {}, "storm": {Result: lab.Skipped, Why: "full size only"},
		"kernel-nfs": {Result: lab.Exact, Why: "kernel: sunrpc"}, "tcp-drip": {Result: lab.Failed, Why: "drip: Sent 1 instead of 2"},
	})
	now := file(t, "6.18.44-fc", map[string]lab.Result{
		"sctp4": {Result: lab.Skipped, Why: "no SCTP"}, "udp-nameless-5-peers": {Result: lab.Inferred, Why: "tracepoint"},
		"xdp-bind": {Result: lab.Gapped, Why: "AF_XDP socket"},
	})
	if err := run(&bytes.Buffer{}, page, false, []string{now, old}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| Path | Case | 6.1 | 6.18 | Remark |",
		"| both ways, IPv4 | `tcp4` | exact (fexit, tracepoint) | exact | |",
		"| both ways, IPv6 | `tcp6` | not run | exact | |",
		"| over 1,000 processes a second | `storm` | not at this size | exact | |",
		"| the kernel's own client (NFS) | `kernel-nfs` | exact | exact | kernel: sunrpc |",
		"| SCTP, IPv4 | `sctp4` | exact | not there | no SCTP |",
		"| AF_XDP | `xdp-bind` | exact | gap | AF_XDP socket |",
		"| recv without asking for the address, five senders | `udp-nameless-5-peers` | exact | inferred | |",
		"| a few bytes now and then, over several windows | `tcp-drip` | FAILED | exact | |",
		"| a slow drip | `tcp-drip` | FAILED | exact |",
		"| TCP, sent | `tcp4`, `tcp-bulk` | exact | exact |",
		"| **detected, 0 % off** | | **22 of 24** | **23 of 23** |",
	} {
		if !strings.Contains(string(raw), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

func TestCheckComparesWhatBothKnow(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "coverage.md")
	guest := func(release string) string {
		return file(t, release, map[string]lab.Result{"vsock": {Result: lab.Gapped, Why: "a"}})
	}
	host := func(release, case1 string) string {
		return file(t, release, map[string]lab.Result{case1: {Result: lab.Skipped, Why: "no such thing"}})
	}
	if err := run(&bytes.Buffer{}, page, false, []string{guest("6.1.0-1"), host("6.18.2", "vsock")}); err != nil {
		t.Fatal(err)
	}
	failing := file(t, "6.1.9-2", map[string]lab.Result{"tcp4": {Result: lab.Failed, Why: "a"}, "vsock": {Result: lab.Gapped}})
	for name, c := range map[string]struct {
		files []string
		fails bool
		says  string
	}{
		"patch releases do not matter":   {[]string{guest("6.1.9-2"), host("6.18.44-x", "vsock")}, false, "kernel 6.18: 0 contradictions"},
		"another result":                 {[]string{failing}, true, `kernel 6.1, tcp4: the page says "exact", this run has shown "FAILED"`},
		"a case that was not run":        {[]string{file(t, "6.1.9", map[string]lab.Result{"tcp4": {}, "vsock": {Result: lab.Gapped}})}, true, "not run"},
		"a machine that lacks something": {[]string{host("6.18.44-x", "tun-write")}, false, `tun-write: the page says "exact", this run has shown "not there"`},
		"another kernel is left out":     {[]string{guest("6.1.9-2"), host("6.19.1", "tun-write")}, false, "no column for kernel 6.19"},
		"no kernel in common":            {[]string{host("6.19.1", "vsock")}, false, "no column for kernel 6.19"},
		"a guest's result stays proved":  {[]string{failing, host("6.19.1", "vsock")}, true, "1 contradictions"},
		"two results of the same series": {[]string{guest("6.1.9-2"), guest("6.1.9-3")}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(&out, page, true, c.files)
			if (err != nil) != c.fails || !strings.Contains(out.String(), c.says) {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

func TestResultsWithoutSenseAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "an empty list": "[]", "another case": `[{"case": "no such case", "kernel": "6.1.0", "result": "exact"}]`,
	} {
		path := filepath.Join(t.TempDir(), "results.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(&bytes.Buffer{}, filepath.Join(t.TempDir(), "page.md"), false, []string{path}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSeriesOfAKernel(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]string{"6.1.0-56-amd64": "6.1", "6.18.44-fc-v657": "6.18", "7.0-rc1": "7.0", "6.12+x": "6.12", "odd": "odd"} {
		if got := seriesOf(release); got != want {
			t.Errorf("%s: %s", release, got)
		}
	}
}
