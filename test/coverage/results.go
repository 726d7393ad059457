package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/picosnitch/picosnitch/test/lab"
)

// results are those of several kernels.
type results struct {
	kernels []string                         // series as 6.1, the oldest first
	of      map[string]map[string]lab.Result // by series and case
}

// readAll reads files as the lab writes them. Two of the same series are an error: which one would count?
func readAll(files []string) (results, error) {
	all := results{of: map[string]map[string]lab.Result{}}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return results{}, fmt.Errorf("read results: %w", err)
		}
		var list []lab.Result
		if err := json.Unmarshal(raw, &list); err != nil {
			return results{}, fmt.Errorf("read results %s: %w", file, err)
		}
		if len(list) == 0 {
			return results{}, fmt.Errorf("read results %s: there are none", file)
		}
		series := seriesOf(list[0].Kernel)
		if all.of[series] != nil {
			return results{}, fmt.Errorf("read results %s: another file is of kernel %s too", file, series)
		}
		all.kernels = append(all.kernels, series)
		all.of[series] = map[string]lab.Result{}
		for _, r := range list {
			all.of[series][r.Case] = r
		}
	}
	slices.SortFunc(all.kernels, olderFirst)
	return all, nil
}

// known fails if a case has no words, so that none is left out of the table.
func (r results) known() error {
	worded := map[string]bool{}
	for _, g := range groups() {
		for _, p := range g.paths {
			worded[p.name] = true
		}
	}
	var missing []string
	for _, series := range r.kernels {
		for name := range r.of[series] {
			if !worded[name] && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("no words for the lab's %s: add them to test/coverage/groups.go", strings.Join(missing, ", "))
}

// seriesOf is the version and patch level of a release: 6.1 of 6.1.0-56-amd64.
func seriesOf(release string) string {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return release
	}
	minor := parts[1]
	if end := strings.IndexFunc(minor, func(c rune) bool { return c < '0' || c > '9' }); end >= 0 {
		minor = minor[:end]
	}
	return parts[0] + "." + minor
}

func olderFirst(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i]) // what is no number sorts first
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return cmp.Compare(m, n)
		}
	}
	return cmp.Compare(len(x), len(y))
}
