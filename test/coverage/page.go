package main

import (
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/test/lab"
)

// page is what a rendered page says of cases.
type page struct {
	kernels []string            // that have a column
	cases   []string            // in its order
	cells   map[string][]string // by case, in the order of kernels
}

// readPage takes the tables of cases out of a rendered page. The public comparison is made of the same cells.
func readPage(text string) page {
	p := page{cells: map[string][]string{}}
	for line := range strings.Lines(text) {
		cells := split(line)
		switch {
		case len(cells) < 4:
		case cells[1] == "Case":
			p.kernels = cells[2 : len(cells)-1]
		case len(cells) == len(p.kernels)+3 && strings.Trim(cells[1], "-") != "":
			name := strings.Trim(cells[1], "`")
			p.cases = append(p.cases, name)
			p.cells[name] = cells[2 : len(cells)-1]
		}
	}
	return p
}

// difference is a cell that does not say what a run has shown.
type difference struct {
	name, says, shown string
}

func (d difference) String() string {
	return fmt.Sprintf("%s: the page says %q, this run has shown %q", d.name, d.says, d.shown)
}

// contradicts is false if it is the machine that differs.
func (d difference) contradicts() bool { return d.says != notThere && d.shown != notThere }

// differences compares the column of a kernel with its results.
func (p page) differences(series string, of map[string]lab.Result) []difference {
	column := 0
	for p.kernels[column] != series {
		column++
	}
	var all []difference
	for _, name := range p.cases {
		if d := (difference{name, p.cells[name][column], cell(of, name)}); d.says != d.shown {
			all = append(all, d)
		}
	}
	for name := range of {
		if _, ok := p.cells[name]; !ok {
			all = append(all, difference{name, notRun, cell(of, name)})
		}
	}
	return all
}
