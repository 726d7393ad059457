package lab

import (
	"context"
	"database/sql"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/need"
)

type ownScenario struct {
	name string
	run  func(*testing.T, *Lab)
}

// own are the scenarios that start, kill or configure a daemon of their own.
func own() []ownScenario {
	return []ownScenario{
		{"before-start", beforeStart},
		{"queued-before-start", queuedBeforeStart},
		{"uncounted-before-start", uncountedBeforeStart},
		{"kill-plugin", killPlugin},
		{"calls-under-way", callsUnderWay},
		{"kill-host", killHost},
		{"kill-host-mayfly", killHostMayfly},
		{"stop-under-load", stopUnderLoad},
		{"flooder", flooder},
		{"broken-config", brokenConfig},
		{"missing-config", missingConfig},
		{"owner", ownersFile},
		{"old-database", oldDatabase},
		{"query", query},
		{"second-daemon", secondDaemon},
		{"no-privileges", noPrivileges},
	}
}

// witness moves a few bytes and checks that they are seen.
func witness(t *testing.T, l *Lab, d *Daemon) {
	t.Helper()
	c := NewCase(t, l, d)
	v := newConversation(c)
	v.exchange(100)
	v.finish()
	c.Check()
}

// brokenConfig starts with a good file once, then with one that is no JSON: it is reported by line, left as it is, and
// the last good settings go on (a write window of one second, or the rows would come late).
func brokenConfig(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	d.Start()
	d.Stop()
	broken := "{\n  \"DB write limit (seconds)\": 1,\n  \"Log ports\": tru\n}\n"
	d.WriteConfig(broken)
	d.Start()
	witness(t, l, d)
	d.Stop()
	if !strings.Contains(d.Log(), "config.json:3:") {
		t.Errorf("the log does not name config.json:3:\n%s", d.LogTail())
	}
	now, err := os.ReadFile(filepath.Join(d.Config, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if string(now) != broken {
		t.Errorf("config.json was rewritten: %q", now)
	}
}

// missingConfig is written with the 20 keys of 1.0.3, readable by its owner alone.
func missingConfig(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	path := filepath.Join(d.Config, "config.json")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.Start()
	d.Stop()
	wantOwner(t, path, ownerUID, 0o600)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatalf("config.json that was written: %v", err)
	}
	for _, key := range []string{"DB retention (days)", "DB sql log", "Log ignore", "VT request limit (seconds)"} {
		if _, ok := config[key]; !ok {
			t.Errorf("config.json that was written has no %q: %s", key, raw)
		}
	}
}

func wantOwner(t *testing.T, path string, uid uint32, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != uid {
		t.Errorf("%s belongs to %d, not %d", path, got, uid)
	}
	if mode != 0 && info.Mode().Perm() != mode {
		t.Errorf("%s has mode %o, not %o", path, info.Mode().Perm(), mode)
	}
}

// ownersFile reads the database as the user who ran sudo, with sqlite3, while the daemon writes it.
func ownersFile(t *testing.T, l *Lab) {
	sqlite3 := need.Program(t, "sqlite3")
	d := NewDaemon(t, l, ownerUID)
	d.Start()
	load := newLoad(t, l, d)
	witness(t, l, d)
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), Deadline())
		cmd := exec.CommandContext(ctx, sqlite3, d.Database(), ".timeout 5000", "SELECT count(*) > 0 FROM connections")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ownerUID, Gid: ownerUID}}
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || strings.TrimSpace(string(out)) != "1" {
			t.Errorf("sqlite3 as the owner: %v: %s", err, out)
		}
		time.Sleep(300 * time.Millisecond)
	}
	wantOwner(t, d.Database(), ownerUID, 0)
	load.client.p.discard()
	load.server.p.discard()
	d.Stop()
	link, err := os.Readlink(d.Database())
	if err != nil || link != "sqlite/snitch.db" && link != filepath.Join(d.Config, "sqlite", "snitch.db") {
		t.Errorf("snitch.db: %q, %v; not a link into the plugin's directory", link, err)
	}
	for _, name := range []string{"exe.log", "record.json"} {
		wantOwner(t, filepath.Join(d.Config, name), ownerUID, 0)
	}
}

// oldDatabase finds a file of 1.0.3 at its place: it is set aside untouched.
func oldDatabase(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	writeOldDatabase(t, d.Database())
	if err := os.Chown(d.Database(), ownerUID, ownerUID); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(d.Database())
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	witness(t, l, d)
	d.Stop()
	after, err := os.ReadFile(filepath.Join(d.Config, "snitch-1.0.3.db"))
	if err != nil {
		t.Fatalf("the old file was not set aside: %v", err)
	}
	if string(after) != string(before) {
		t.Error("the old file was changed")
	}
}

func writeOldDatabase(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`PRAGMA user_version = 3;
		CREATE TABLE connections (contime text, send integer, recv integer, exe text, name text, cmdline text, sha256 text,
			pexe text, pname text, pcmdline text, psha256 text, uid integer, lport integer, rport integer, laddr text,
			raddr text, domain text);
		INSERT INTO connections VALUES ('2026-01-01 00:00:00', 1, 2, '/usr/bin/old', 'old', 'old', '', '', '', '', '', 0,
			-1, 443, '', '192.0.2.1', 'org.example');`)
	if err != nil {
		t.Fatal(err)
	}
}

// query asks through the daemon, and then with the daemon stopped, as root and as the owner.
func query(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.Start()
	c := NewCase(t, l, d)
	server, client := c.Start("answerer", c.Pair.B), c.Start("asker", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", c.Pair.B.V4))
	server.Accept("l", "s")
	client.Send("s", 4567, 1)
	server.Receive("s", 4567)
	server.Send("s", 89, 1)
	client.Receive("s", 89)
	exe := client.Identity().Exe
	client.Finish()
	server.Finish()
	c.Check()
	wantQuery(t, d, "running", exe)
	d.Stop()
	wantQuery(t, d, "stopped", exe)
}

func wantQuery(t *testing.T, d *Daemon, when, exe string) {
	t.Helper()
	for _, uid := range []int{0, ownerUID} {
		rows, err := d.Query(uid, "asker")
		if err != nil {
			t.Errorf("daemon %s, uid %d: %v", when, uid, err)
			continue
		}
		if len(rows) != 1 || rows[0].Exe != exe {
			t.Errorf("daemon %s, uid %d: %+v, not one row of %s", when, uid, rows, exe)
			continue
		}
		if sent, received := rows[0].Bytes(); sent != 4567 || received != 89 {
			t.Errorf("daemon %s, uid %d: %d sent, %d received; not 4567 and 89", when, uid, sent, received)
		}
	}
}

// secondDaemon is refused, whatever a pid file says, and does not disturb the first.
func secondDaemon(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	d.Start()
	a := d.Verb(0, "start-no-daemon", append(d.Directories(), "--instance", d.Instance)...)
	if a.Code == 0 || !regexp.MustCompile(`(?i)already|running|lock`).MatchString(a.Stderr+a.Stdout) {
		t.Errorf("second daemon: exit code %d, %q", a.Code, a.Stderr+a.Stdout)
	}
	witness(t, l, d)
	d.Kill()
	d.Start() // a lock dies with its holder
	d.Stop()
}

// noPrivileges says what is missing.
func noPrivileges(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	for _, verb := range []string{"start", "start-no-daemon"} {
		a := d.Verb(ownerUID, verb, append(d.Directories(), "--instance", d.Instance)...)
		if a.Code == 0 || !regexp.MustCompile(`CAP_[A-Z_]+|root|sudo`).MatchString(a.Stderr) {
			t.Errorf("%s without privileges: exit code %d, %q; does not say what is missing", verb, a.Code, a.Stderr)
		}
	}
}
