package record

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	errorLog      = "error.log"
	errorInterval = time.Minute // in which the same message is written once
	errorBurst    = 120         // lines in an interval, of all messages
	errorMessages = 256         // remembered
	errorLength   = 4096        // bytes of a message
)

// errorLimit decides which error.log lines are written: the same message once in an interval, and not too many in all.
// What it holds back it counts and says later.
type errorLimit struct {
	messages   map[string]*repeated
	began      time.Time // of the interval that written counts for
	written    int
	held       uint64 // of messages beyond the burst
	suppressed uint64 // all that was held back, ever
}

type repeated struct {
	text  string
	last  time.Time
	again uint64 // times since last
}

func newErrorLimit() *errorLimit { return &errorLimit{messages: map[string]*repeated{}} }

// admit tells whether text may be written. Texts of one key are the same message.
func (e *errorLimit) admit(now time.Time, key, text string) bool {
	if old, ok := e.messages[key]; ok && within(now, old.last) {
		old.again++
		old.text = text
		e.suppressed++
		return false
	}
	if !within(now, e.began) {
		e.began, e.written = now, 0
	}
	if e.written >= errorBurst || (len(e.messages) >= errorMessages && e.messages[key] == nil) {
		e.held++
		e.suppressed++
		return false
	}
	e.written++
	if old := e.messages[key]; old == nil || old.again == 0 {
		e.messages[key] = &repeated{text: text, last: now}
	} else { // the repetitions are said by due
		old.last = now
	}
	return true
}

// due gives the lines that tell what was held back, once an interval is over, and forgets old messages.
func (e *errorLimit) due(now time.Time) (lines []string) {
	for _, key := range slices.SortedFunc(maps.Keys(e.messages), cmp.Compare[string]) {
		m := e.messages[key]
		if within(now, m.last) {
			continue
		}
		if m.again == 0 {
			delete(e.messages, key)
			continue
		}
		lines = append(lines, errorLine(now, fmt.Sprintf("%s (%d more times)", m.text, m.again)))
		m.again, m.last = 0, now
	}
	if e.held > 0 && !within(now, e.began) {
		lines = append(lines, errorLine(now, fmt.Sprintf("%d more errors were not written, there were too many", e.held)))
		e.held = 0
	}
	return lines
}

// within is also false when the clock was set back: better a line too many than silence for years.
func within(now, last time.Time) bool {
	passed := now.Sub(last)
	return passed >= 0 && passed < errorInterval
}

// errorLine bounds text and makes it one line whatever it holds. Backslashes stay as they are: they are of what the text's
// maker has escaped.
func errorLine(now time.Time, text string) string {
	if len(text) > errorLength {
		text = text[:errorLength-3] + "..."
	}
	pieces := strings.Split(text, `\`)
	for i, piece := range pieces {
		pieces[i] = sdk.EscapeString(piece)
	}
	return now.Format(timeFormat) + " " + strings.Join(pieces, `\`)
}
