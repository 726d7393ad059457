package config

import (
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

// Severity says what a problem does to the configuration.
type Severity int

const (
	// Warning: what it names is passed over, everything else counts.
	Warning Severity = iota
	// Error: the file is not used while another configuration can be had.
	Error
)

// String is "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is one thing in config.json that cannot be meant. No field holds a value of the file.
type Problem struct {
	Severity     Severity
	File         string // as the user knows it; "config.json" until a Store says better
	Line, Column int    // from 1, in characters; 0 when the problem has no place
	Key          string // `DB retention (days)`, `Plugins.acme.paths`, `Log ignore[2]`; "" for the whole file
	What         string
	Hint         string // "" when there is none
}

// String is file:line:column: key: what (hint), safe to print anywhere.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(sdk.EscapeString(p.File))
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		fmt.Fprintf(&b, "\"%s\" ", sdk.EscapeString(p.Key))
	}
	b.WriteString(p.What)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	return b.String()
}

// Broken tells whether any of the problems is an Error.
func Broken(problems []Problem) bool {
	for _, p := range problems {
		if p.Severity == Error {
			return true
		}
	}
	return false
}
