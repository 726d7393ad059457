package main

import (
	"slices"
	"strings"
)

const introduction = `# What is counted, and how

Made by ` + "`make coverage`" + ` from the results of the lab (` + "`test/lab`" + `): real processes on a real kernel say what each of their own
calls returned, and every row of the database is compared with it, to the byte. Kernels 6.1 and 6.12 are Debian's, in QEMU;
the other one is the machine that runs the tests. CI compares this page with its own results, and on 6.1 runs some cases once
more with kprobes alone, as arm64 has them before 6.3. All this is amd64. On arm64, 6.12 passes the same
cases and 6.1 those that kprobes can count (` + "`make test-arm64`" + `, not in CI).

| | |
| --- | --- |
| exact | every row as the processes said: bytes, calls, process, addresses |
| exact (fexit) | the same, counted in another way than by the tracepoints of socket calls |
| inferred | exact bytes; of some receives the peer is inferred, and the row says so |
| gap | not counted, but reported, with the program that does it |
| not there | this kernel, or this machine, does not have it |
| not at this size | the case needs the full size, which an emulated guest has no time for |
| not run | the run left no result |
`

const comparison = `
## The public comparison

The Python picosnitch publishes a benchmark of ten monitors over 24 scenarios, where within 10 % of the bytes is a pass. The best
one there passes 23 (it misses AF_PACKET); another one detects all 24 and has the right bytes of 19. Here the bytes are 0 % off.
What a kernel lacks is not in its sum.
`

// render gives the whole page.
func render(all results) string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, g := range groups() {
		b.WriteString("\n## " + g.title + "\n\n")
		head(&b, []string{"Path", "Case"}, all.kernels, "Remark")
		for _, p := range g.paths {
			cells := []string{p.words, "`" + p.name + "`"}
			for _, series := range all.kernels {
				cells = append(cells, cell(all.of[series], p.name))
			}
			row(&b, append(cells, remark(all, p.name)))
		}
	}
	b.WriteString(comparison + "\n")
	head(&b, []string{"Scenario", "Cases"}, all.kernels)
	for _, s := range public() {
		cells := []string{s.words, "`" + strings.Join(s.cases, "`, `") + "`"}
		for _, series := range all.kernels {
			cells = append(cells, verdict(all.of[series], s))
		}
		row(&b, cells)
	}
	sums := []string{"**detected, 0 % off**", ""}
	for _, series := range all.kernels {
		sums = append(sums, "**"+score(all.of[series])+"**")
	}
	row(&b, sums)
	return b.String()
}

func head(b *strings.Builder, before, kernels []string, after ...string) {
	cells := slices.Concat(before, kernels, after)
	row(b, cells)
	row(b, slices.Repeat([]string{"---"}, len(cells)))
}

func row(b *strings.Builder, cells []string) {
	for _, c := range cells {
		b.WriteString("| ")
		if c != "" {
			b.WriteString(c + " ")
		}
	}
	b.WriteString("|\n")
}

// split gives the cells of a line of a table.
func split(line string) []string {
	line = strings.TrimSuffix(line, "\n")
	if !strings.HasPrefix(line, "| ") || !strings.HasSuffix(line, "|") {
		return nil
	}
	cells := strings.Split(strings.TrimSuffix(line[1:], "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}
