package record

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	exeLog     = "exe.log"
	timeFormat = "2006-01-02 15:04:05" // local time, as in 1.0.3
	columnSize = 16                    // characters of the second field
	exeLimit   = 1024                  // lines in a window; an eighth for one account. A long one counts as several
)

// exeLines are the lines for exe.log that wait, and what was written in this window by whom.
type exeLines struct {
	lines
	written quota
	more    map[account]uint64 // lines beyond an account's share
}

func newExeLines() exeLines {
	return exeLines{written: newQuota(exeLimit), more: map[account]uint64{}}
}

// news adds a line within the share of the account that it is about; beyond, it is counted.
func (l *exeLines) news(payer account, line string) {
	cost := 1 + len(line)/256
	if l.written.used[payer]+cost <= l.written.room(payer) {
		l.written.add(payer, cost)
		l.add(line)
		return
	}
	if l.written.used[payer] == 0 {
		payer = others()
	}
	l.more[payer]++
}

// endWindow says how many lines were not written.
func (l *exeLines) endWindow(now time.Time) {
	for _, payer := range slices.SortedFunc(maps.Keys(l.more), compareAccounts) {
		who := "user " + payer.String()
		if payer == others() {
			who = "other users"
		}
		l.add(fmt.Sprintf("%s %s %s (%d more lines)", now.Format(timeFormat), column("picosnitch"), who, l.more[payer]))
	}
	clear(l.more)
	l.written.reset()
}

// programLine is the line for a new name or path; path may be "scope:/path".
func programLine(now time.Time, name, path string, news novelty, parent bool) string {
	what := "new name, exe"
	switch {
	case !news.exe:
		what = "new name"
	case !news.name:
		what = "new exe"
	}
	line := now.Format(timeFormat) + " " + column(name) + " " + sdk.EscapeString(path) + " (" + what + ")"
	if parent {
		line += " (parent)"
	}
	return line
}

// hashLine is the line for a hash: what is "new hash", "suspicious" or "clean".
func hashLine(now time.Time, hash, path, what string) string {
	return now.Format(timeFormat) + " " + column(hash) + " " + sdk.EscapeString(path) + " (" + what + ")"
}

// column escapes text and makes it exactly 16 characters, without cutting an escape in two.
func column(text string) string {
	var b strings.Builder
	length := 0
	for at := 0; at < len(text); {
		_, size := utf8.DecodeRuneInString(text[at:])
		unit := sdk.EscapeString(text[at : at+size])
		n := utf8.RuneCountInString(unit)
		if length+n > columnSize {
			break
		}
		b.WriteString(unit)
		length += n
		at += size
	}
	return b.String() + strings.Repeat(" ", columnSize-length)
}
