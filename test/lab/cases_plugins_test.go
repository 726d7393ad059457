package lab

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// onPlugins are the scenarios that need more plugins than sqlite.
func onPlugins() []ownScenario {
	return []ownScenario{
		{"four-sinks", fourSinks},
		{"postgresql", postgres},
		{"mariadb", mariadb},
		{"reconfigured", reconfigured},
		{"selected", selected},
		{"events", events},
		{"slow-reader", slowReader},
		{"reverse-dns", reverseDNS},
		{"history", history},
		{"takeover", takeover},
		{"stopped-sink", stoppedSink},
		{"out-of-memory", outOfMemory},
	}
}

// TestPlugins has the real daemon run every kind of plugin at once, and everything that a person can tell it about them.
// With PICOSNITCH_BIN, textlog and sqlserver must lie beside sqlite.
func TestPlugins(t *testing.T) {
	l := New(t, true)
	if os.Getenv("PICOSNITCH_BIN") == "" {
		for _, name := range []string{"textlog", "sqlserver"} {
			build(t, filepath.Join(filepath.Dir(l.Command), "plugins", "picosnitch-plugin-"+name), "./plugins/"+name)
		}
	}
	seats := make(chan struct{}, Size(3, 1)) // daemons at once
	for _, s := range onPlugins() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			seats <- struct{}{}
			t.Cleanup(func() { <-seats }) // runs last: after the daemon is gone
			s.run(t, l)
		})
	}
}

// settings is config.json as it is written.
type settings map[string]any

// configure writes config.json: the lab's defaults, and these.
func (d *Daemon) configure(more settings) {
	d.t.Helper()
	all := settings{}
	if err := json.Unmarshal([]byte(defaultConfig()), &all); err != nil {
		d.t.Fatal(err)
	}
	maps.Copy(all, more)
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		d.t.Fatal(err)
	}
	d.WriteConfig(string(raw))
}

// reload has the running daemon read config.json again.
func (d *Daemon) reload() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(unix.SIGHUP); err != nil {
		d.t.Fatalf("SIGHUP: %v", err)
	}
}

// trusted is a directory that only root can write to, up to the root of all: the only place that picosnitch starts a
// third party's plugin from. It goes with the test.
func trusted(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "picosnitch-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// goPlugin builds a plugin of this tree as a third party would.
func goPlugin(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(trusted(t), "picosnitch-plugin-"+filepath.Base(pkg))
	build(t, path, pkg)
	return path
}

// pythonSink is the example in Python. Without Debian's modules the test is skipped.
func pythonSink(t *testing.T) string {
	t.Helper()
	err := exec.Command("/usr/bin/python3", "-c", "import grpc, google.protobuf, cryptography").Run()
	need.Have(t, "python3-grpcio, python3-protobuf, python3-cryptography", err == nil)
	raw, err := os.ReadFile("../../examples/python-sink/python-sink")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(trusted(t), "python-sink")
	if err := writeExecutable(path, raw); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantRunning waits until exactly these plugins run, by the daemon's word and by the processes that there are. A degraded one
// runs, too.
func (d *Daemon) wantRunning(names ...string) {
	d.t.Helper()
	slices.Sort(names)
	d.until("running plugins", func() string {
		var have []string
		for _, p := range d.plugins() {
			if p.Pid != 0 && (p.Running() || p.State == "degraded") {
				have = append(have, p.Name)
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, names) {
			return "plugins say: " + strings.Join(have, " ")
		}
		if found := d.pluginProcesses(); len(found) != len(names) {
			return "processes: " + strings.Join(found, " ")
		}
		return ""
	})
}

// until waits until wrong says nothing.
func (d *Daemon) until(what string, wrong func() string) {
	d.t.Helper()
	for end := time.Now().Add(Deadline()); ; time.Sleep(100 * time.Millisecond) {
		text := wrong()
		if text == "" {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("%s after %v: %s\n%s", what, Deadline(), text, d.LogTail())
		}
	}
}

// plugins is everything that `plugins --json` says; nothing while the daemon does not answer.
func (d *Daemon) plugins() []PluginStatus {
	d.t.Helper()
	a := d.Verb(0, "plugins", "--json", "--run-dir", d.Run)
	var list []PluginStatus
	if a.Code != 0 || json.Unmarshal([]byte(a.Stdout), &list) != nil {
		return nil
	}
	return list
}

// pluginProcesses names the first process of every plugin of this instance, as /proc has it: a child of the daemon that
// runs under one of the instance's own user ids.
func (d *Daemon) pluginProcesses() []string {
	d.t.Helper()
	host := strings.TrimSpace(strings.Join(readLines(d.t, filepath.Join(d.Run, "picosnitch.pid")), ""))
	first, last, _ := strings.Cut(d.uids, "-")
	low, _ := strconv.Atoi(first)
	high, _ := strconv.Atoi(last)
	var found []string
	for _, dir := range glob("/proc/[0-9]*") {
		raw, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // it has ended
		}
		uid, parent, name := -1, "", ""
		for line := range strings.Lines(string(raw)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			switch fields[0] {
			case "Name:":
				name = fields[1]
			case "PPid:":
				parent = fields[1]
			case "Uid:":
				uid, _ = strconv.Atoi(fields[1])
			}
		}
		if uid >= low && uid <= high && parent == host {
			found = append(found, name)
		}
	}
	return found
}

// must runs a verb as root, which has to succeed.
func (d *Daemon) must(verb string, args ...string) string {
	d.t.Helper()
	a := d.Verb(0, verb, append(args, d.Directories()...)...)
	if a.Code != 0 {
		d.t.Fatalf("picosnitch %s %s: exit code %d: %s%s", verb, strings.Join(args, " "), a.Code, a.Stdout, a.Stderr)
	}
	return a.Stdout
}

// readLines gives a file's lines; one that does not exist yet has none. What stands behind the last line break is left out.
func readLines(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	return lines[:len(lines)-1]
}
