package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/name"
	"github.com/picosnitch/picosnitch/host/internal/record"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
)

// idleDaemon is a daemon with everything but a kernel side, whose plugins are prepared and not run.

func idleDaemon(t *testing.T, config string, plugins ...string) *daemon {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	d := &daemon{
		log: slog.New(slog.DiscardHandler), started: time.Now(), state: &state{dir: filepath.Join(dir, "s")},
		settings: settings{
			ConfigDir: filepath.Join(dir, "c"), StateDir: filepath.Join(dir, "s"), RunDir: filepath.Join(dir, "r"),
			PluginDirs: []string{filepath.Join(dir, "p")}, UIDs: supervisor.DefaultUIDs(), Plugins: plugins,
		},
	}
	for _, sub := range []string{"c", "s", "p"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sqlite", "textlog", "geoip", "virustotal"} {
		if err := os.WriteFile(filepath.Join(dir, "p", "picosnitch-plugin-"+name), []byte("#!/bin/false\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeConfig(t, d, config)
	d.table = identity.New(identity.Options{Now: capture.Now})
	d.names = name.New(name.Options{})
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = d.table.Close(ctx)
	})
	var err error
	if d.dir, err = home.Open(d.settings.ConfigDir, d.settings.Owner); err != nil {
		t.Fatal(err)
	}
	d.onClose(d.dir.Close)
	steps := []func(context.Context) error{
		func(context.Context) error { return d.loadConfig() }, d.openJournal, d.openRecord, d.openIdlePipeline, d.openSupervisor,
	}
	for _, step := range steps {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d.server, err = api.Listen(api.Options{RunDir: d.settings.RunDir}, d); err != nil {
		t.Fatal(err)
	}
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return d.server.Close(ctx)
	})
	return d
}

// openIdlePipeline makes a pipeline that nothing flows through.

func (d *daemon) openIdlePipeline(context.Context) error {
	d.pipeline = &pipeline{recorder: d.recorder, feed: d.feed, seen: d.seen, between: make(chan func(), 1)}
	d.gaps = &ledger{add: d.pipeline.add}
	d.tellEdited(d.edited)
	return nil
}

func writeConfig(t *testing.T, d *daemon, config string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.settings.ConfigDir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *daemon) running() []string {
	var names []string
	for _, p := range d.supervisor.Status() {
		names = append(names, p.GetName())
	}
	slices.Sort(names)
	return names
}

func (d *daemon) errorLog(t *testing.T) string {
	t.Helper()
	if err := d.recorder.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(d.settings.ConfigDir, "error.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

const sqliteAlone = `"GeoIP lookup": false, "Desktop notifications": false`

func TestAChangeOfTheConfigurationComesIntoForce(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{`+sqliteAlone+`}`)
	if d := cmp.Diff([]string{"sqlite"}, d.running()); d != "" {
		t.Fatalf("plugins (-want +got):\n%s", d)
	}
	old := d.recorder.use()
	d.fault("said before")
	writeConfig(t, d, `{"DB sql log": false, "DB text log": true, "GeoIP lookup": true, "Desktop notifications": false, "Log ports": false,
		"VT API key": "s3cret", "VT file upload": true, "DB write limit (seconds)": 60,
		"Plugins": {"host": {"config": {"group": "wheel", "journal_mb": 64}}}}`)
	d.reload()
	if diff := cmp.Diff([]string{"geoip", "textlog", "virustotal"}, d.running()); diff != "" {
		t.Errorf("plugins (-want +got):\n%s", diff)
	}
	if sinks := d.journal.Sinks(); !slices.Equal(sinks, []string{"textlog"}) {
		t.Errorf("sinks %v", sinks)
	}
	d.pipeline.pause()
	if d.recorder.use() == old {
		t.Error("the recorder is still the old one")
	}
	var keys []string
	var notices string
	for _, r := range d.pipeline.takeExtra() {
		keys = append(keys, r.GetConfig().GetChanged()...)
		notices += string(r.GetNotice().GetText().GetValue()) + "\n"
	}
	if want := []string{"DB sql log", "DB text log", "DB write limit (seconds)", "GeoIP lookup", "Log ports", "Plugins.host", "VT API key", "VT file upload"}; cmp.Diff(want, keys) != "" {
		t.Errorf("changed %v", keys)
	}
	if !strings.Contains(notices, "config.json was edited: DB sql log, DB text log") || !strings.Contains(notices, "said before") {
		t.Errorf("notices %q", notices)
	}
	if log := d.errorLog(t); !strings.Contains(log, "said before") || !strings.Contains(log, "was edited") || strings.Contains(log, "s3cret") {
		t.Errorf("error.log: %q", log)
	}
	if _, remarks := d.inForce.messages(); len(remarks) != 2 || !strings.Contains(remarks[0], `"DB write limit (seconds)"`) {
		t.Errorf("what counts from the next start on: %q", remarks)
	}
	writeConfig(t, d, `{`+sqliteAlone+`}`)
	d.reload()
	if _, remarks := d.inForce.messages(); len(remarks) != 0 {
		t.Errorf("as it was at the start: %q", remarks)
	}
}

func TestWhatDidNotChangeIsLeftAlone(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{`+sqliteAlone+`}`)
	writeConfig(t, d, `{ "Log ports" : true, `+sqliteAlone+`}`)
	d.reload()
	if extra := d.pipeline.takeExtra(); len(extra) != 0 {
		t.Errorf("records %v", extra)
	}
	select {
	case <-d.pipeline.between:
		t.Error("the recorder is replaced")
	default:
	}
}

func TestABrokenFileLeavesTheOldOneInForce(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{"Log ports": false, `+sqliteAlone+`}`)
	for _, broken := range []string{"{\n \"Log ports\": true,\n \"DB text log\": 1\n}", "{", "{\"Plugins\": {\"a\": {\"sha265\": \"\"}}}"} {
		writeConfig(t, d, broken)
		d.reload()
		if c := d.inForce.get(); c.LogPorts || c.TextLog {
			t.Errorf("%s is in force: %+v", broken, c)
		}
		if got := d.running(); !slices.Equal(got, []string{"sqlite"}) {
			t.Errorf("%s: plugins %v", broken, got)
		}
	}
	log := d.errorLog(t)
	if !strings.Contains(log, `config.json:3:17: "DB text log" must be true or false`) {
		t.Errorf("error.log: %q", log)
	}
	if s := d.complaints(); !strings.Contains(s, "not in force") || !strings.Contains(s, "Plugins.a.sha265") {
		t.Errorf("complaints %q", s)
	}
	writeConfig(t, d, `{`+sqliteAlone+`}`)
	d.reload()
	if s := d.complaints(); s != "" || !d.inForce.get().LogPorts {
		t.Errorf("once mended: %q", s)
	}
}

func (d *daemon) complaints() string {
	wrong, _ := d.inForce.messages()
	return strings.Join(wrong, "\n")
}

func TestAPluginThatCannotBeMeantStopsNobody(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{`+sqliteAlone+`, "Plugins": {"a": {"path": "/bin/false", "user": "nobody"},
		"b": {"path": "/bin/false", "user": "0"}, "c": {"path": "/bin/false", "paths": {"/proc": "ro"}}, "d": {"path": "/bin/false"}}}`)
	if got := d.running(); !slices.Equal(got, []string{"d", "sqlite"}) {
		t.Errorf("plugins %v", got)
	}
	for _, want := range []string{"Plugins.a: user: must be the owner", "a plugin never runs as root: it is not started", "Plugins.c: "} {
		if s := d.complaints(); !strings.Contains(s, want) {
			t.Errorf("%q lacks %q", s, want)
		}
	}
}

func TestWhatWaitsForAPluginThatCannotBeMeantStays(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{`+sqliteAlone+`, "Plugins": {"a": {"path": "/bin/false"}}}`)
	both := []string{"a", "sqlite"}
	binary := filepath.Join(d.settings.PluginDirs[0], "picosnitch-plugin-sqlite")
	if err := os.Rename(binary, binary+".away"); err != nil {
		t.Fatal(err)
	}
	writeConfig(t, d, `{`+sqliteAlone+`, "Plugins": {"a": {"path": "/bin/false", "user": "nobody"}}}`)
	d.reload()
	if got := d.running(); len(got) != 0 {
		t.Errorf("plugins %v", got)
	}
	if err := d.unregisterSinks(); err != nil { // as at a start
		t.Fatal(err)
	}
	if sinks := d.journal.Sinks(); !slices.Equal(sinks, both) {
		t.Errorf("sinks %v, want %v", sinks, both)
	}
	if err := os.Rename(binary+".away", binary); err != nil {
		t.Fatal(err)
	}
	d.reload() // the file is as it was
	if got := d.running(); !slices.Equal(got, []string{"sqlite"}) {
		t.Errorf("plugins %v once sqlite is installed", got)
	}
	writeConfig(t, d, `{`+sqliteAlone+`}`)
	d.reload()
	if sinks := d.journal.Sinks(); !slices.Equal(sinks, []string{"sqlite"}) {
		t.Errorf("sinks %v once it is gone", sinks)
	}
	d.settings.Plugins = []string{"textlog"}
	d.reload()
	if sinks := d.journal.Sinks(); !slices.Equal(sinks, []string{"sqlite", "textlog"}) {
		t.Errorf("sinks %v where sqlite is left out for once", sinks)
	}
}

func TestWhatWouldKeepRecordsAndIsNotInstalledIsTold(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{"DB sql server": {"client": "psycopg"}}`)
	if got := d.running(); !slices.Equal(got, []string{"geoip", "sqlite"}) {
		t.Errorf("plugins %v", got)
	}
	s := d.complaints()
	if !strings.Contains(s, `"DB sql server" asks for it`) || strings.Contains(s, "notif") {
		t.Errorf("%q", s)
	}
}

func TestOneRunCanHaveItsOwnPlugins(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t, `{}`, "textlog", "geoip")
	if got := d.running(); !slices.Equal(got, []string{"geoip", "textlog"}) {
		t.Errorf("plugins %v", got)
	}
	writeConfig(t, d, `{"DB text log": false, "DB retention (days)": 3}`)
	d.reload()
	if got := d.running(); !slices.Equal(got, []string{"geoip", "textlog"}) {
		t.Errorf("after a reload: %v", got)
	}
	if _, err := os.Lstat(filepath.Join(d.settings.ConfigDir, "snitch.db")); err == nil {
		t.Error("snitch.db is linked although sqlite does not run")
	}
	d.settings.Plugins = []string{"nobody"}
	if _, err := d.choices(d.inForce.get()); err == nil || !strings.Contains(err.Error(), "nobody is no built-in plugin") {
		t.Errorf("unknown: %v", err)
	}
	for text, want := range map[string][]string{"": nil, "none": {}, "a,b": {"a", "b"}} {
		if got, err := parsePlugins(text); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{",", "a,", "A", "a b", "../x"} {
		if _, err := parsePlugins(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if got := strings.Join(settings{Plugins: []string{}}.arguments(), " "); !strings.HasSuffix(got, "--plugins none") {
		t.Errorf("arguments %s", got)
	}
}

func TestCountersSurviveAReplacedRecorder(t *testing.T) {
	t.Parallel()
	a, b := record.Counters{Rows: 5, Known: 7, Sent: 1 << 63}, record.Counters{Rows: 6, Known: 8, Sent: 9}
	if got := sumCounters(a, b); got.Rows != 11 || got.Known != 8 || got.Sent != 1<<63+9 {
		t.Errorf("sum %+v", got)
	}
}

func TestAHangUpIsToldFromASignalToReload(t *testing.T) {
	t.Parallel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if hungUp(null, terminal) {
		t.Error("a terminal that is there has gone")
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if !hungUp(null, terminal) {
		t.Error("a terminal that has gone is there")
	}
	if hungUp(null) {
		t.Error("/dev/null is a terminal")
	}
}
