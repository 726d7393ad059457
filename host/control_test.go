package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/live"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestGrantsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{"VT API key": "k", "DB text log": true}`)
	if d.grants("virustotal").Executables || d.seen.on {
		t.Error("granted without VT file upload")
	}
	writeConfig(t, d, `{"VT API key": "k", "VT file upload": true, "DB text log": true}`)
	d.reload()
	if !d.seen.on || !d.grants("virustotal").Executables || d.grants("textlog").Executables {
		t.Error("grants do not follow the configuration")
	}
}

func TestWhatIsKeptForHowLongIsToldByTheBacklogsGrowth(t *testing.T) {
	t.Parallel()
	const hour, week = time.Hour, 7 * 24 * time.Hour
	s := journal.SinkStats{Bytes: 3600 << 20, Oldest: time.Now()}
	for _, c := range []struct {
		name      string
		s         journal.SinkStats
		free      int64
		age, want time.Duration
		known     bool
	}{
		{"by bytes", s, 7200 << 20, hour, 2 * hour, true},
		{"by age", s, 1 << 50, 6 * 24 * hour, 24 * hour, true},
		{"full", s, -5, hour, 0, true},
		{"too old", s, 1 << 50, 2 * week, 0, true},
		{"young", s, 1 << 30, time.Second, 0, true},
		{"nothing waits", journal.SinkStats{}, 1 << 30, hour, 0, true},
		{"unknown", s, 1 << 30, hour, 0, false},
	} {
		if got := roomFor(c.s, c.free, week, c.age, c.known); got.Round(time.Minute) != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTheDaemonAnswersAboutPlugins(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{`+sqliteAlone+`}`)
	if _, err := d.Control(t.Context(), &wire.ControlRequest{Plugin: "nobody", Action: wire.ControlRequest_RESTART}); err == nil {
		t.Error("control of nobody")
	}
	text, err := d.Control(t.Context(), &wire.ControlRequest{Plugin: "sqlite", Action: wire.ControlRequest_DISCARD})
	if err != nil || text != "nothing waited for sqlite" {
		t.Errorf("discard: %q, %v", text, err)
	}
	text, err = d.Control(t.Context(), &wire.ControlRequest{Plugin: "sqlite", Action: wire.ControlRequest_RETRY})
	if err != nil || text != "nothing was set aside for sqlite" {
		t.Errorf("retry: %q, %v", text, err)
	}
	if _, err := d.Control(t.Context(), &wire.ControlRequest{Plugin: "sqlite"}); err == nil {
		t.Error("no action is one")
	}
	if _, err := d.PluginLog(t.Context(), "sqlite"); err != nil {
		t.Errorf("log: %v", err)
	}
	if err := d.Use(t.Context(), "locator", "", nil); err == nil || !strings.Contains(err.Error(), "no locator runs") {
		t.Errorf("use: %v", err)
	}
	if err := d.Use(t.Context(), "locator", "sqlite", nil); err == nil || !strings.Contains(err.Error(), "sqlite is no locator") {
		t.Errorf("use: %v", err)
	}
	d.feed.Close()
	if err := d.Watch(t.Context(), &wire.WatchRequest{}, nil); err != nil {
		t.Errorf("watch after the end: %v", err)
	}
	if _, err := live.New(live.Options{Record: record.Options{Unredacted: []string{"?"}}}); err == nil {
		t.Error("a rule that is none")
	}
}

func TestAJournalWithoutItsReserveIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stats journal.Stats
		want  string // in the message; "": there is none
	}{
		"well":       {journal.Stats{Reserve: true}, ""},
		"no reserve": {journal.Stats{}, "no room for journal.reserve"},
		"full":       {journal.Stats{Full: &journal.DiskError{Cause: syscall.ENOSPC}}, "no space left"},
	} {
		messages := journalTrouble(c.stats)
		if len(messages) > 1 || (c.want == "") != (len(messages) == 0) || !strings.Contains(strings.Join(messages, ""), c.want) {
			t.Errorf("%s: messages %q", name, messages)
		}
	}
}
