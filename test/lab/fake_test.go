package lab

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/test/need"
)

// fakeDaemon does what the harness relies on, and nothing else.
const fakeDaemon = `#!/bin/sh
verb=$1
while [ $# -gt 0 ]; do
	case $1 in
	--run-dir) run=$2 ;;
	esac
	shift
done
case $verb in
start-no-daemon)
	trap 'exit 0' TERM
	: >"$run/ready"
	while :; do sleep 0.05; done ;;
plugins)
	echo '{"plugins":[{"name":"textlog"},{"name":"sqlite","state":"running","pid":5,"uid":62001,"restarts":2}]}' ;;
query)
	echo '[{"exe":"/lab/a","sent":4567,"received":89}]' ;;
*)
	echo "unknown verb $verb" >&2
	exit 2 ;;
esac
`

func newFake(t *testing.T) (*Lab, *Daemon) {
	t.Helper()
	l := New(t, false)
	l.Command = filepath.Join(l.Dir, "fake")
	if err := writeExecutable(l.Command, []byte(fakeDaemon)); err != nil {
		t.Fatal(err)
	}
	return l, NewDaemon(t, l, ownerUID)
}

func TestDaemonIsStartedAskedKilledAndStopped(t *testing.T) {
	_, d := newFake(t)
	d.Start()
	if p := d.WaitPlugin("sqlite", PluginStatus.Running); p.Restarts != 2 || p.UID != 62001 {
		t.Errorf("plugin: %+v", p)
	}
	if _, err := d.Plugin("nosuch"); err == nil {
		t.Error("a plugin that is not there was found")
	}
	wantQuery(t, d, "faked", "/lab/a")
	if a := d.Verb(ownerUID, "dance"); a.Code != 2 || a.Stderr != "unknown verb dance\n" {
		t.Errorf("verb: %+v", a)
	}
	d.Kill()
	d.Start()
	d.Stop()
}

// TestCheckAcceptsTheTruthAndNothingElse stores the rows that a perfect daemon would, and then spoils one.
func TestCheckAcceptsTheTruthAndNothingElse(t *testing.T) {
	l, d := newFake(t)
	d.Start()
	c := NewCase(t, l, d)
	v := newConversation(c)
	v.exchange(10)
	v.finish()
	db := storeTruth(t, d.Database(), c.wanted())
	c.Check()
	d.Recheck()
	for spoil, want := range map[string]string{
		"UPDATE connections SET send = send + 1 WHERE rowid = 1":    "Sent",
		"UPDATE connections SET psha256 = '' WHERE rowid = 1":       "psha256",
		"UPDATE connections SET lport = 1 WHERE rowid = 1":          "lport",
		"DELETE FROM connections WHERE rowid = 1":                   "none",
		"INSERT INTO connections SELECT * FROM connections LIMIT 1": "twice",
	} {
		t.Run(spoil, func(t *testing.T) {
			if _, err := db.Exec(spoil); err != nil {
				t.Fatal(err)
			}
			defer restoreTruth(t, db, c.wanted())
			rows, err := readRows(t.Context(), d.Database(), c.filter())
			if err != nil {
				t.Fatal(err)
			}
			if got := table(compare(c.wanted(), rows)); !strings.Contains(got, want) {
				t.Errorf("the table does not say %q:\n%s", want, got)
			}
		})
	}
}

func storeTruth(t *testing.T, path string, want []Expectation) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.Exec(`PRAGMA journal_mode = wal; CREATE TABLE connections (host_id, epoch, seq INTEGER,
		exe, sha256, name, cmdline, pexe, psha256, pname, pcmdline, gexe, gsha256, gname, gcmdline,
		pid, uid, netns, protocol, laddr, lport, raddr, rport,
		send, recv, sends, receives, connects, accepts, failures, listens, direction, result, peer, counting, layer, exe_scope)`)
	if err != nil {
		t.Fatal(err)
	}
	restoreTruth(t, db, want)
	return db
}

func restoreTruth(t *testing.T, db *sql.DB, want []Expectation) {
	t.Helper()
	if _, err := db.Exec("DELETE FROM connections"); err != nil {
		t.Fatal(err)
	}
	for i, e := range merge(want) {
		k, s := e.Key, e.Sums
		_, err := db.Exec("INSERT INTO connections VALUES ('01', '02', ?"+strings.Repeat(", ?", 30)+", 'exact', 'tracepoint', 'socket', '')", i,
			k.Process.Exe, k.Process.SHA256, k.Process.Name, k.Process.Cmdline, k.Parent.Exe, k.Parent.SHA256, k.Parent.Name,
			k.Parent.Cmdline, "", "", "", "", k.Pid, k.UID, k.Netns, map[string]int{"tcp": 6, "udp": 17}[k.Protocol], k.Laddr, k.Lport, k.Raddr, k.Rport, s.Sent,
			s.Received, s.Sends, s.Receives, s.Connects, s.Accepts, s.Failures, s.Listens, "", "")
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLeftoversOfDeadLabsAreRemoved(t *testing.T) {
	need.Root(t, "remove what labs leave")
	lock(t)
	const dead = "999999999"
	paths := []string{filepath.Join(os.TempDir(), dirPrefix+dead)}
	if _, err := os.Stat("/sys/fs/bpf"); err == nil {
		if err := os.Mkdir("/sys/fs/bpf/"+pinPrefix+"-"+dead+"-1", 0o700); err == nil { // not where bpffs is not mounted
			paths = append(paths, "/sys/fs/bpf/"+pinPrefix+"-"+dead+"-1")
		}
	}
	if err := os.MkdirAll(filepath.Join(paths[0], "1", "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(paths[0], "1", "pid"), []byte("1"), 0o600); err != nil { // not a lab's daemon: spared
		t.Fatal(err)
	}
	removeLeftovers(t)
	for _, path := range paths {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}
