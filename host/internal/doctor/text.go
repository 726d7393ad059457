package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

// maxText bounds what somebody else's error or name may take of a report.
const maxText = 600

// said makes text from elsewhere fit for a terminal: one line, bounded, nothing that is obeyed.
func said(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return sdk.EscapeString(text)
}

// saidError is said of an error, "" of none.
func saidError(err error) string {
	if err == nil {
		return ""
	}
	return said(err.Error())
}

// WriteText shows findings to a person: a line for what is, and under it what to do.
func WriteText(out io.Writer, findings []Finding) error {
	for _, f := range findings {
		lines := []string{fmt.Sprintf("%-7s  %s: %s", f.Level, f.About, f.Says)}
		for _, d := range f.Detail {
			lines = append(lines, strings.Repeat(" ", 11)+d)
		}
		if f.Do != "" {
			lines = append(lines, strings.Repeat(" ", 9)+"what to do: "+f.Do)
		}
		if _, err := fmt.Fprintln(out, strings.Join(lines, "\n")); err != nil {
			return err
		}
	}
	return nil
}

// Summary is the report's last line.
func (r Report) Summary() string {
	var warnings, problems int
	for _, f := range r.Findings {
		switch f.Level {
		case Warning:
			warnings++
		case Problem:
			problems++
		}
	}
	switch r.Verdict {
	case AllWell:
		return "all is well"
	case WithWarnings:
		if !r.Facts.Capture.Tried {
			return fmt.Sprintf("nothing is known to keep picosnitch from working here; %s", number(warnings, "warning"))
		}
		return fmt.Sprintf("picosnitch works here; %s", number(warnings, "warning"))
	case WithProblems:
		return fmt.Sprintf("not all is well: %s, %s", number(problems, "problem"), number(warnings, "warning"))
	}
	return fmt.Sprintf("picosnitch cannot capture here: %s, %s", number(problems, "problem"), number(warnings, "warning"))
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// bytesText shows a size to a person.
func bytesText(n uint64) string {
	switch {
	case n >= 10_000_000_000:
		return fmt.Sprintf("%.0f GB", float64(n)/1e9)
	case n >= 1_000_000_000:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1_000_000:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0f kB", float64(n)/1e3)
}
