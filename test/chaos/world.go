package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab"
)

// world is one daemon with all its sinks, on a disk of its own, and the traffic that it watches.
type world struct {
	*testing.T
	Daemon  *lab.Daemon
	Case    *lab.Case
	Traffic *traffic
	Disk    *disk
	Server  *server
	Stores  []store
	Diary   diary

	programs string // where the host and its plugins lie
	full     bool   // the disk is
	blind    []span // when nobody counted, though something moved
	later    agenda // on the test's goroutine
}

// newWorld makes everything and starts it: when it returns, the daemon watches, every sink runs and bytes move.
func newWorld(t *testing.T, l *lab.Lab) *world {
	t.Helper()
	base := filepath.Join(l.Dir, filepath.Base(t.Name()))
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, programs: filepath.Dir(l.Command)}
	w.Disk = newDisk(t, base)
	w.Daemon = lab.NewDaemonOn(t, l, owner, w.Disk.Dir)
	w.Case = lab.NewCase(t, l, w.Daemon)
	w.build(l)
	t.Cleanup(w.tell)
	w.Daemon.WriteConfig(w.config())
	deed := w.Diary.begin(start, "", "")
	w.Daemon.Start()
	deed.end("")
	w.Traffic = newTraffic(w.Case)
	for _, s := range w.Stores {
		w.Daemon.WaitPlugin(s.Plugin, lab.PluginStatus.Running)
	}
	w.Traffic.resume()
	return w
}

// tell prints what was done when, if that is of interest.
func (w *world) tell() {
	if w.Failed() || testing.Verbose() {
		w.Logf("what was done:\n%s", w.Diary.String())
	}
	if w.Failed() {
		raw, err := os.ReadFile(filepath.Join(w.Daemon.Config, "error.log"))
		w.Logf("error.log: %v\n%s", err, raw)
	}
}

// build adds the plugins that the lab has not built, and says how each store is read.
func (w *world) build(l *lab.Lab) {
	w.Helper()
	inside := w.Case.Directory()
	w.Stores = []store{
		{Plugin: "sqlite", Gaps: true, read: func(ctx context.Context) (contents, error) { return readSQLite(ctx, w.Case) }},
		{Plugin: "textlog", read: func(context.Context) (contents, error) {
			return readLog(filepath.Join(w.Daemon.Config, "textlog", "conn.log"), inside)
		}},
		{Plugin: "jsonl", Gaps: true, read: func(context.Context) (contents, error) {
			return readLines(filepath.Join(w.Daemon.Config, "jsonl", "records.jsonl"), inside)
		}},
	}
	for plugin, pkg := range map[string]string{
		"textlog": "./plugins/textlog", "jsonl": "./examples/jsonl", "sqlserver": "./plugins/sqlserver",
	} {
		path := filepath.Join(w.programs, "plugins", "picosnitch-plugin-"+plugin)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			l.Build(path, pkg)
		}
	}
	w.Server = newServer(w.T)
	w.Stores = append(w.Stores, store{Plugin: "sqlserver", Gaps: true, read: func(ctx context.Context) (contents, error) {
		return w.Server.read(ctx, inside)
	}})
}

// config enables every sink.
func (w *world) config() string {
	settings := map[string]any{
		"DB write limit (seconds)": 1, "Desktop notifications": false, "GeoIP lookup": false, "DB text log": true,
		"Plugins": map[string]any{"jsonl": map[string]any{"memory_mb": 64}}, "DB sql server": w.Server.settings(),
	}
	raw, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		w.Fatal(err)
	}
	return string(raw) + "\n"
}

// plugins are the names of all sinks.
func (w *world) plugins() []string {
	var names []string
	for _, s := range w.Stores {
		names = append(names, s.Plugin)
	}
	return names
}

// patience is how long a store may stand still before it has everything: a sink that was killed often waits a minute for
// its next start.
func patience() time.Duration { return 3 * lab.Deadline() }

// checkStores waits until every store is the truth, and fails with a table of what differs.
func (w *world) checkStores() {
	w.Helper()
	begun, moved, was := time.Now(), time.Now(), ""
	for {
		differences := w.differences()
		if len(differences) == 0 {
			w.Logf("every store exact after %v", time.Since(begun).Round(time.Millisecond))
			return
		}
		now := fmt.Sprint(differences)
		if now != was {
			moved, was = time.Now(), now
		}
		if time.Since(moved) > patience() {
			w.Fatalf("after %v:\n%s\n%s\ndaemon:\n%s", time.Since(begun), table(differences), w.status(), w.Daemon.LogTail())
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// differences compares every store once.
func (w *world) differences() []difference {
	var out []difference
	truth := truthOf(w.Case.Wanted())
	for _, s := range w.Stores {
		c, err := w.read(s)
		if err != nil {
			out = append(out, difference{s.Plugin, "", "store", "can be read", err.Error()})
			continue
		}
		found := differencesOf(s.Plugin, truth, c.Rows)
		if len(found) == 0 { // bytes are right: then the other columns, too
			for _, d := range c.Exact {
				found = append(found, difference{s.Plugin, d.Key.Process.Name, d.Field, d.Want, d.Got})
			}
		}
		out = append(out, found...)
	}
	return out
}

func (w *world) read(s store) (contents, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lab.Deadline())
	defer cancel()
	return s.read(ctx)
}

// status is what the daemon says of its plugins.
func (w *world) status() string {
	if w.Daemon.Pid() == 0 {
		return "the daemon is down"
	}
	a := w.Daemon.Verb(0, "plugins", "--run-dir", w.Daemon.Run)
	return a.Stdout + a.Stderr
}

// checkGaps fails for each gap of each store that nothing which was done explains, and for each time without a host that
// no gap tells of.
func (w *world) checkGaps() {
	w.Helper()
	var found []difference
	for _, s := range w.Stores {
		c, err := w.read(s)
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, unjustified(s.Plugin, c.Gaps, w.Diary.deeds, w.Case.Directory())...)
		if s.Gaps {
			found = append(found, uncovered(s.Plugin, c.Gaps, w.blind)...)
			w.Logf("%s: %d rows, %d gaps", s.Plugin, len(c.Rows), len(c.Gaps))
		} else {
			w.Logf("%s: %d rows", s.Plugin, len(c.Rows))
		}
	}
	if len(found) > 0 {
		w.Errorf("gaps:\n%s", table(found))
	}
}

// checkUsage fails when the host has grown since before.
func (w *world) checkUsage(before usage) {
	w.Helper()
	after, err := usageOf(w.Daemon.Pid())
	if err != nil {
		w.Fatal(err)
	}
	w.Logf("host held %+v, now %+v", before, after)
	if found := leaked(before, after); len(found) > 0 {
		w.Errorf("the host has grown:\n%s", table(found))
	}
}

// checkRemains stops the daemon and fails for each thing that is left of it.
func (w *world) checkRemains() {
	w.Helper()
	w.Daemon.Stop()
	first, last := w.Daemon.UIDs()
	found := orphans(first, last, w.programs)
	for _, path := range w.Daemon.InstanceDirectories() {
		found = append(found, difference{"machine", "", "pins or cgroup", "none", path})
	}
	below, err := lab.MountsBelow(w.Disk.Dir)
	if err != nil {
		w.Fatal(err)
	}
	inRun, err := lab.MountsBelow(w.Daemon.Run)
	if err != nil {
		w.Fatal(err)
	}
	for _, path := range append(below, inRun...) {
		found = append(found, difference{"machine", "", "mount", "none", path})
	}
	found = append(found, w.leftInRun()...)
	if len(found) > 0 {
		w.Errorf("left when the daemon had stopped:\n%s", table(found))
	}
}

// leftInRun are the files in the run directory. The lock may stay: whoever removes it makes room for two holders.
func (w *world) leftInRun() []difference {
	w.Helper()
	var out []difference
	err := filepath.WalkDir(w.Daemon.Run, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != "lock" {
			out = append(out, difference{"machine", "", "run directory", "empty", e.Type().String() + " " + path})
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}
