package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/test/lab"
)

// The words of a cell that is not about how bytes were counted.
const (
	notThere = "not there"
	notRun   = "not run"
	notFull  = "not at this size"
	gap      = "gap"
	failed   = "FAILED"
)

// cell says how a case ended.
func cell(of map[string]lab.Result, name string) string {
	r, ran := of[name]
	if !ran {
		return notRun
	}
	switch r.Result {
	case lab.Exact, lab.Inferred:
		return r.Result + another(r.Why)
	case lab.Gapped:
		return gap
	case lab.Skipped:
		if !strings.HasPrefix(r.Why, "no ") {
			return notFull
		}
		return notThere
	}
	return failed
}

// another names the ways of counting if there is another one than the tracepoint.
func another(why string) string {
	if why == "" || why == "tracepoint" || !counting(why) {
		return ""
	}
	return " (" + why + ")"
}

// counting tells that why lists ways of counting, and is no remark.
func counting(why string) bool {
	for word := range strings.SplitSeq(why, ", ") {
		switch word {
		case "tracepoint", "fexit", "cgroup", "kprobe", "estimate":
		default:
			return false
		}
	}
	return true
}

// remark is what the results of a case say beside the way of counting, each thing once.
func remark(all results, name string) string {
	var said []string
	for _, series := range all.kernels {
		r := all.of[series][name]
		plain := r.Why == "" || r.Result == lab.Failed || counting(r.Why) || cell(all.of[series], name) == notFull
		if !plain && !slices.Contains(said, r.Why) {
			said = append(said, r.Why)
		}
	}
	return strings.Join(said, "; ")
}

// verdict is the worst of the cells of a scenario's cases.
func verdict(of map[string]lab.Result, s scenario) string {
	worst, rank := "", -1
	for _, name := range s.cases {
		c := cell(of, name)
		if n := severity(c); n > rank {
			worst, rank = c, n
		}
	}
	words, _, _ := strings.Cut(worst, " (") // the table above tells the way
	return words
}

func severity(cell string) int {
	for n, word := range []string{lab.Exact, lab.Inferred, notFull, notThere, gap, notRun, failed} {
		if strings.HasPrefix(cell, word) {
			return n
		}
	}
	return len(cell)
}

// score sums the verdicts of a kernel up: scenarios whose bytes were all told, of those that the kernel can show.
func score(of map[string]lab.Result) string {
	right, all := 0, 0
	for _, s := range public() {
		switch verdict(of, s) {
		case lab.Exact, lab.Inferred:
			right, all = right+1, all+1
		case notThere:
		default:
			all++
		}
	}
	return fmt.Sprintf("%d of %d", right, all)
}
