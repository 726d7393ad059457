package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const secret = "hunter2-must-not-be-seen"

// reconfigured changes config.json under a running daemon: what changed starts and stops, what did not runs on, a broken
// file changes nothing, and no secret is shown anywhere.
func reconfigured(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.configure(settings{"VT API key": secret})
	d.Start()
	d.wantRunning("sqlite")
	witness(t, l, d)

	server := settings{"client": "psycopg", "host": "127.0.0.1", "port": 1, "dbname": "x", "user": "x", "password": secret}
	d.configure(settings{"VT API key": secret, "DB sql log": false, "DB text log": true, "DB sql server": server})
	d.reload()
	d.wantRunning("sqlserver", "textlog")
	pid := d.WaitPlugin("textlog", PluginStatus.Running).Pid
	for _, key := range []string{"DB sql log", "DB text log", "DB sql server"} {
		d.wantSaid(key)
	}

	d.WriteConfig("{\n  \"DB sql log\": true,\n  \"VT API key\": \"" + secret + "\" \"DB text log\": false\n}\n")
	d.reload()
	d.wantSaid("config.json:3:")
	d.wantRunning("sqlserver", "textlog")
	if now := d.WaitPlugin("textlog", PluginStatus.Running).Pid; now != pid {
		t.Errorf("a broken file restarted textlog: process %d, then %d", pid, now)
	}
	wantNoSecret(t, d)

	server["pasword"] = secret // misspelt: the plugin refuses it by name
	d.configure(settings{"DB sql server": server})
	d.reload()
	d.wantRunning("sqlite")
	d.until("the setting that does not exist", func() string {
		if said := d.said("plugins"); !strings.Contains(said, `no setting "pasword"`) {
			return said
		}
		return ""
	})
	wantNoSecret(t, d)

	d.WriteConfig(defaultConfig())
	d.reload()
	d.wantRunning("sqlite")
	again := NewCase(t, l, d)
	again.dir += "-again"
	again.talk(200)
	again.Check()
	wantNoSecret(t, d)
	d.Stop()
}

// wantSaid waits until error.log says something.
func (d *Daemon) wantSaid(text string) {
	d.t.Helper()
	d.until("error.log", func() string {
		log := strings.Join(readLines(d.t, filepath.Join(d.Config, "error.log")), "\n")
		if !strings.Contains(log, text) {
			return fmt.Sprintf("does not say %q:\n%s", text, log)
		}
		return ""
	})
}

// wantNoSecret looks wherever a person, or another user, might see one.
func wantNoSecret(t *testing.T, d *Daemon) {
	t.Helper()
	places := map[string]string{"the daemon's output": d.Log()}
	for _, name := range []string{"error.log", "exe.log", "record.json"} {
		raw, err := os.ReadFile(filepath.Join(d.Config, name))
		if err == nil {
			places[name] = string(raw)
		}
	}
	for _, p := range d.plugins() {
		for _, file := range []string{"cmdline", "environ"} {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.Pid, file))
			if err == nil {
				places[p.Name+"'s "+file] = string(raw)
			}
		}
		places["plugins log "+p.Name] = d.said("plugins", "log", p.Name)
	}
	for _, words := range []string{"status", "plugins", "plugins --json", "config show", "config check", "query --notices", "query --gaps"} {
		args := strings.Fields(words)
		places[words] = d.said(args[0], args[1:]...)
	}
	for place, text := range places {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret:\n%s", place, text)
		}
	}
}

// said is everything that a verb prints, however it ends.
func (d *Daemon) said(verb string, args ...string) string {
	d.t.Helper()
	a := d.Verb(0, verb, append(args, d.Directories()...)...)
	return a.Stdout + a.Stderr
}

// selected overrides config.json for one run.
func selected(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.configure(settings{"DB text log": true})
	t.Cleanup(func() { d.said("stop") })
	for _, c := range []struct {
		word string
		runs []string
	}{{"sqlite", []string{"sqlite"}}, {"none", nil}, {"", []string{"sqlite", "textlog"}}} {
		var args []string
		if c.word != "" {
			args = []string{"--plugins", c.word}
		}
		d.must("start", args...)
		d.wantRunning(c.runs...)
		d.must("stop")
		if left := d.pluginProcesses(); len(left) > 0 {
			t.Errorf("after start --plugins %s and stop there are %v", c.word, left)
		}
	}
}

// stoppedSink fills the disk under sqlite: the words say what that means, what waits is stored when there is room again or
// given up when somebody says so, and a process that no longer answers is replaced.
func stoppedSink(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	disk := smallDisk(t, filepath.Join(d.Config, "sqlite"))
	d.configure(settings{"DB text log": true})
	d.Start()
	witness(t, l, d)
	// A write-ahead log that has grown takes many windows more on a full disk; a store that begins anew has none.
	fill := func() {
		old := d.WaitPlugin("sqlite", PluginStatus.Running)
		d.must("plugins", "restart", "sqlite")
		d.WaitPlugin("sqlite", func(p PluginStatus) bool { return p.Running() && p.Pid != old.Pid })
		disk.fill()
	}

	fill()
	waits := NewCase(t, l, d)
	waits.dir += "-waits"
	waits.talk(1500)
	words := regexp.MustCompile(`sqlite: history is not being saved since \d\d:\d\d; [1-9][\d,]* records wait`) // for how long there is room is known after a minute
	d.until("words", func() string {
		said := d.said("plugins")
		if !words.MatchString(said) || !strings.Contains(said, "last error: ") {
			return said
		}
		return ""
	})
	d.WaitPlugin("sqlite", func(p PluginStatus) bool { return p.State == "degraded" && p.Queued > 0 })
	disk.empty()
	waits.Check()

	fill()
	lost := NewCase(t, l, d)
	lost.dir += "-lost"
	lost.talk(2500)
	first := d.WaitPlugin("sqlite", func(p PluginStatus) bool { return p.State == "degraded" && p.Queued > 0 })
	lost.talk(2600) // one batch is in the plugin's hands, this is another one
	d.WaitPlugin("sqlite", func(p PluginStatus) bool { return p.Queued > first.Queued })
	time.Sleep(2 * time.Second) // until all of it is there
	if text := d.must("plugins", "discard", "sqlite"); !regexp.MustCompile(`[1-9]`).MatchString(text) {
		t.Errorf("plugins discard does not say how many records: %s", text)
	}
	disk.empty()
	d.until("a gap in place of what was given up", func() string {
		gaps, err := readGaps(t.Context(), d.Database())
		for _, g := range gaps {
			if strings.Contains(strings.ToLower(g.Reason+" "+g.Cause), "discard") || g.Reason == "sink-overflow" {
				return ""
			}
		}
		return fmt.Sprintf("%+v, %v", gaps, err)
	})
	d.must("plugins", "retry", "sqlite") // nothing was set aside

	p := d.WaitPlugin("sqlite", PluginStatus.Running)
	if err := unix.Kill(p.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frozen := NewCase(t, l, d)
	frozen.dir += "-frozen"
	frozen.talk(3500)
	d.must("plugins", "restart", "sqlite")
	d.WaitPlugin("sqlite", func(b PluginStatus) bool { return b.Running() && b.Pid != p.Pid })
	frozen.Check()
	d.Stop()
}

// talk is a conversation from begin to end.
func (c *Case) talk(bytes int) {
	c.Helper()
	v := newConversation(c)
	v.exchange(bytes)
	v.finish()
}

// disk is a file system of some megabytes: the daemon under test also stores what others do on this machine meanwhile.
type disk struct {
	t    *testing.T
	path string
}

// smallDisk mounts one at path, which belongs to the owner of the configuration.
func smallDisk(t *testing.T, path string) *disk {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	how := fmt.Sprintf("size=64m,mode=0700,uid=%d,gid=%d", ownerUID, ownerUID)
	if err := unix.Mount("lab", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, how); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return &disk{t: t, path: path}
}

// fill leaves no room.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.path, "ballast"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
}

func (d *disk) empty() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.path, "ballast")); err != nil {
		d.t.Fatal(err)
	}
}

// ending is a run of a plugin in `plugins log --json`.
type ending struct {
	PID         int    `json:"pid"`
	Signal      string `json:"signal"`
	OutOfMemory bool   `json:"out_of_memory"`
	Reason      string `json:"reason"`
	PeakMemory  uint64 `json:"peak_memory"`
}

// outOfMemory has a plugin take all the memory it can: it ends alone, at its bound, and the log says of what.
func outOfMemory(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.configure(settings{"Plugins": settings{"escape": settings{
		"path": goPlugin(t, "./test/escape"), "memory_mb": 64, "config": settings{"Mode": "memory"},
	}}})
	d.Start()
	start := time.Now()
	d.until("the end of the memory bomb", func() string {
		a := d.Verb(0, "plugins", append([]string{"log", "escape", "--json"}, d.Directories()...)...)
		var log struct{ Ended []ending }
		if err := json.Unmarshal([]byte(a.Stdout), &log); err != nil {
			return a.Stderr
		}
		for _, e := range log.Ended {
			if e.OutOfMemory {
				t.Logf("ended after %v: %+v", time.Since(start).Round(time.Millisecond), e)
				if e.PeakMemory > 160<<20 {
					t.Errorf("it took %d MB of 64", e.PeakMemory>>20)
				}
				return ""
			}
		}
		return a.Stdout
	})
	if text := d.said("plugins", "log", "escape"); !strings.Contains(text, "out of memory") {
		t.Errorf("plugins log does not say that it ran out of memory:\n%s", text)
	}
	witness(t, l, d)
	d.Stop()
}
