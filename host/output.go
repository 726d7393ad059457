package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// writeJSON writes a value for programs, indented. Text has been made printable before.
func writeJSON(out io.Writer, value any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// instant shows UTC nanoseconds to programs, as RFC 3339; 0 is "".
func instant(ns int64) string { return instantIn(ns, time.UTC) }

func instantIn(ns int64, zone *time.Location) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).In(zone).Format(time.RFC3339Nano)
}

// localTime shows UTC nanoseconds to a person; 0 is "".
func localTime(ns int64, zone *time.Location) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).In(zone).Format(time.DateTime)
}

// kilobytes shows bytes as 1.0.3 did.
func kilobytes(n uint64) string { return fmt.Sprintf("%.1f kB", float64(n)/1000) }

// heading is the title of a table's column.
type heading struct {
	title string
	right bool // numbers
}

// writeTable writes aligned columns. Cells are printable already.
func writeTable(out io.Writer, headings []heading, rows [][]string) error {
	widths := make([]int, len(headings))
	titles := make([]string, len(headings))
	for i, h := range headings {
		titles[i], widths[i] = h.title, utf8.RuneCountInString(h.title)
	}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range append([][]string{titles}, rows...) {
		if _, err := fmt.Fprintln(out, tableLine(headings, widths, row)); err != nil {
			return err
		}
	}
	return nil
}

func tableLine(headings []heading, widths []int, row []string) string {
	var b strings.Builder
	for i, cell := range row {
		if i > 0 {
			b.WriteString("  ")
		}
		space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if headings[i].right {
			b.WriteString(space + cell)
		} else {
			b.WriteString(cell + space)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
