package record

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/sdk"
)

func TestNoNameCanForgeALine(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	h.meet(alone(process(1, 0, "/tmp/x\n2026-11-21 17:26:21 curl \xff\u202e\\", "a\nb\x1b[31m", "")))
	h.Error("bad\nthing\x1b \xff")
	h.flush()
	want := "2026-11-21 17:26:21 a\\x0ab\\x1b[31m   /tmp/x\\x0a2026-11-21 17:26:21 curl \\xff\\xe2\\x80\\xae\\\\ (new name, exe)\n"
	if diff := cmp.Diff(want, h.home.text(exeLog)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("2026-11-21 17:26:21 bad\\x0athing\\x1b \\xff\n", h.home.text(errorLog)); diff != "" {
		t.Error(diff)
	}
}

func TestColumnIsAlwaysSixteenCharacters(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "                ", "curl": "curl            ", "0123456789abcdefg": "0123456789abcdef",
		"äöü": "äöü             ", "0123456789abc\n": "0123456789abc   ", "0123456789ab\n": `0123456789ab\x0a`, "012345678\u202e": "012345678       ",
	} {
		if got := column(in); got != want {
			t.Errorf("column(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExeLogIsBoundedForAUserInAWindow(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	const share = exeLimit / 8
	var list []identity.Lineage
	for i := range 1000 {
		list = append(list, alone(process(uint32(i), 1000, fmt.Sprintf("/tmp/%d", i), "x", "")))
	}
	list = append(list, alone(process(5000, 1001, "/bin/quiet", "quiet", "")))
	h.meet(list...)
	h.flush()
	log := strings.Split(strings.TrimSuffix(h.home.text(exeLog), "\n"), "\n")
	if len(log) != share+2 || !strings.HasSuffix(log[share], " /bin/quiet (new name, exe)") {
		t.Fatalf("%d lines: %q", len(log), log)
	}
	if diff := cmp.Diff("2026-11-21 17:26:21 picosnitch       user 1000 (872 more lines)", log[share+1]); diff != "" {
		t.Error(diff)
	}
	h.meet(alone(process(6000, 1000, "/tmp/next", "x", "")))
	h.flush()
	if !strings.HasSuffix(h.home.text(exeLog), " /tmp/next (new exe)\n") {
		t.Error("the next window has no lines of its own")
	}
}

func TestExeLogIsBoundedForManyUsersInAWindow(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	var list []identity.Lineage
	for i := range uint32(2000) {
		list = append(list, alone(process(i, 1000+i, fmt.Sprintf("/tmp/%d", i), "x", "")))
	}
	h.meet(list...)
	h.flush()
	log := h.home.text(exeLog)
	if lines := strings.Count(log, "\n"); lines != exeLimit-exeLimit/8+1 || !strings.HasSuffix(log, " other users (1104 more lines)\n") {
		t.Errorf("%d lines, the last %q", lines, log[max(0, len(log)-100):])
	}
}

func TestSameErrorIsWrittenOnceAndCounted(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	for range 5 {
		h.Error("disk is full")
	}
	h.flush()
	h.now = h.now.Add(61 * time.Second)
	h.flush()
	h.now = h.now.Add(61 * time.Second)
	h.flush()
	h.Error("disk is full")
	h.flush()
	want := "2026-11-21 17:26:21 disk is full\n2026-11-21 17:27:22 disk is full (4 more times)\n2026-11-21 17:28:23 disk is full\n"
	if diff := cmp.Diff(want, h.home.text(errorLog)); diff != "" {
		t.Error(diff)
	}
	if h.Counters().ErrorsSuppressed != 4 {
		t.Errorf("counters: %+v", h.Counters())
	}
}

func TestErrorLogIsBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	for i := range 10000 {
		h.Error(fmt.Sprintf("error %d %s", i, strings.Repeat("x", 10000)))
	}
	h.now = h.now.Add(61 * time.Second)
	h.flush()
	lines := strings.Split(strings.TrimSuffix(h.home.text(errorLog), "\n"), "\n")
	if len(lines) != errorBurst+1 || lines[errorBurst] != "2026-11-21 17:27:22 9880 more errors were not written, there were too many" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	if len(lines[0]) > errorLength+30 {
		t.Errorf("a line of %d bytes", len(lines[0]))
	}
	if len(h.limit.messages) > errorMessages {
		t.Errorf("%d messages kept", len(h.limit.messages))
	}
}

func TestErrorLogHasOneLineAnErrorAndEscapesNothingTwice(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"two\nlines\x1b[2J \xff":           `two\x0alines\x1b[2J \xff`,
		sdk.EscapeString("a\n\\b"):         `a\x0a\\b`,
		`a backslash is written \\ (hint)`: `a backslash is written \\ (hint)`,
	} {
		h := newHost(t, everything())
		h.Error(text)
		h.flush()
		if got := h.home.text(errorLog); got != "2026-11-21 17:26:21 "+want+"\n" {
			t.Errorf("%q: %q", text, got)
		}
		for _, r := range h.Window(window(), whoOf()) {
			if n := r.GetNotice(); n != nil && sdk.Escape(n.GetText().GetValue()) != want {
				t.Errorf("%q: the notice %q", text, n.GetText().GetValue())
			}
		}
	}
}

func TestErrorNoticesReadAsIn103(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"short": "short",
		"Fallback to PID hash successful on FD Stat Error for {}":       "",
		"FD Read Error and PID Read Error and FUSE Read Error for curl": "Read Error for curl",
		"0123456789012345678901234567890123456789012345678901234567":    "01234567890123456789012345678901234567890123456...",
		"ääääääääääääääääääääääääääääääääääääääääääääääääää":            "ääääääääääääääääääääääääääääääääääääääääääääääääää",
	} {
		if got := errorText(in); got != want {
			t.Errorf("errorText(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLossesAreGapsUnlessTheyAreExact(t *testing.T) {
	t.Parallel()
	h := newHost(t, everything())
	w := window()
	w.Losses = []capture.Loss{
		{Cause: "exec ring full", Events: 12},
		{Cause: "flow map full", Events: 3, Sent: 10, Exact: true},
		{Cause: "process map full", Events: 2},
		{Cause: "quiet"},
	}
	var got []string
	for _, r := range h.Window(w, whoOf()) {
		if g := r.GetGap(); g != nil {
			got = append(got, fmt.Sprintf("%s %s %d %d-%d", g.Reason, g.Cause, g.Events, g.Start, g.End))
		}
	}
	want := []string{"GAP_EVENTS_LOST exec ring full 12 1000000000-11000000000", "GAP_MAP_FULL process map full 2 1000000000-11000000000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c := h.Counters(); c.ExactLosses != 3 || c.Gaps != 2 {
		t.Errorf("counters: %+v", c)
	}
	h.flush()
	want103 := `^2026-11-21 17:26:21 BPF callbacks not processing fast enough, missed exec event, try increasing 'Perf ring buffer \(pages\)' ` +
		`\(power of two\) if this continues \(12 events, 0 bytes sent, 0 received\)\n2026-11-21 17:26:21 BPF lost events: process map full \(2 events`
	if !regexp.MustCompile(want103).MatchString(h.home.text(errorLog)) {
		t.Errorf("error.log: %s", h.home.text(errorLog))
	}
}
