package lab

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// postgres keeps the history in PostgreSQL too: through the sandbox's grant of one peer, then of the server's socket.
func postgres(t *testing.T, l *Lab) {
	s := postgreSQL(t)
	keepIn(t, l, s, func(socket bool) (settings, settings) {
		to := settings{"client": "psycopg", "dbname": "picosnitch", "user": "admin", "password": "secret of the lab",
			"sslmode": "disable", "host": "127.0.0.1", "port": s.port}
		if !socket {
			return to, settings{}
		}
		to["host"] = s.sockets()
		return to, settings{"paths": settings{s.sockets(): "rw"}}
	})
}

// mariadb is the same with MariaDB.
func mariadb(t *testing.T, l *Lab) {
	s := mariaDB(t)
	keepIn(t, l, s, func(socket bool) (settings, settings) {
		to := settings{"client": "mariadb", "database": "picosnitch", "user": "keeper", "password": "secret of the lab"}
		if !socket {
			to["host"], to["port"] = "127.0.0.1", s.port
			return to, settings{}
		}
		to["unix_socket"] = s.socket
		return to, settings{"paths": settings{s.sockets(): "rw"}}
	})
}

// keepIn kills the server between transfers and starts it again: nothing is lost, sqlite and the server prove and answer
// the same, and what somebody altered in sqlite is named.
func keepIn(t *testing.T, l *Lab, s *server, to func(socket bool) (server, plugin settings)) {
	d := NewDaemon(t, l, ownerUID)
	connect, plugin := to(false)
	d.configure(settings{"DB sql server": connect, "Plugins": settings{"sqlserver": plugin}})
	d.Start()
	d.wantRunning("sqlite", "sqlserver")
	c := NewCase(t, l, d)
	v := newConversation(c)
	v.exchange(1001)
	d.until("rows in the server", func() string {
		if _, _, rows := s.sums(c.dir); rows == 0 {
			return "none\n" + d.said("plugins")
		}
		return ""
	})

	s.kill()
	v.exchange(2002)
	d.WaitPlugin("sqlserver", func(p PluginStatus) bool { return p.State == "degraded" && p.Queued > 0 })
	v.exchange(3003)
	s.start()
	v.exchange(4004)

	connect, plugin = to(true)
	d.configure(settings{"DB sql server": connect, "Plugins": settings{"sqlserver": plugin}})
	pid := d.WaitPlugin("sqlserver", PluginStatus.Running).Pid
	d.reload()
	d.WaitPlugin("sqlserver", func(p PluginStatus) bool { return p.Running() && p.Pid != pid })
	v.exchange(5005)
	v.finish()
	c.Check()
	d.until("the server's rows", func() string { return c.unlike(s) })
	d.sameAnswers(c)
	d.soundAgainst("sqlserver")
	d.Stop()
	if wrong := c.unlike(s); wrong != "" {
		t.Errorf("after stop: %s", wrong)
	}
	d.Start()
	d.wantRunning("sqlite", "sqlserver")
	tamper(t, d, c)
	d.Kill() // its rows are no longer what the case expects
}

// unlike says how the server's sums differ from what the generators did.
func (c *Case) unlike(s *server) string {
	want := moved{}
	for _, m := range c.truth() {
		want.Sent, want.Received = want.Sent+m.Sent, want.Received+m.Received
	}
	have, ids, rows := s.sums(c.dir)
	if have != want || ids != rows {
		return fmt.Sprintf("server has %+v in %d rows with %d ids, not %+v", have, rows, ids, want)
	}
	return ""
}

// sameAnswers asks both stores the same.
func (d *Daemon) sameAnswers(c *Case) {
	d.t.Helper()
	ask := func(store string) string {
		return d.must("query", "--store", store, "--by", "exe,name,sha256,uid,laddr,raddr,rport,pexe", "--since", "1h",
			"--where", "exe^="+c.dir, "--totals", "--json")
	}
	if here, there := ask("sqlite"), ask("sqlserver"); here != there || !strings.Contains(here, c.dir) {
		d.t.Errorf("sqlite answers\n%s\nsqlserver answers\n%s", here, there)
	}
}

// soundAgainst waits until the stores prove the same: the windows of this moment may still be on their way to one of them.
func (d *Daemon) soundAgainst(store string) {
	d.t.Helper()
	d.until("verify", func() string {
		a := d.Verb(0, "verify", append([]string{"--store", "sqlite", "--against", store}, d.Directories()...)...)
		if a.Code != 0 || !strings.Contains(a.Stdout, "nothing is missing and nothing was altered") {
			return fmt.Sprintf("exit code %d: %s%s", a.Code, a.Stdout, a.Stderr)
		}
		return ""
	})
}

// tamper alters a row of sqlite and removes another one, as who has the file can: verify names both.
func tamper(t *testing.T, d *Daemon, c *Case) {
	t.Helper()
	file, err := filepath.EvalSymlinks(d.Database())
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	type row struct{ id, seq int64 }
	var rows []row
	found, err := db.Query("SELECT id, seq FROM connections WHERE instr(exe, ?) = 1 AND send > 0 ORDER BY id", c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var r row
		if err := found.Scan(&r.id, &r.seq); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil || len(rows) < 2 {
		t.Fatalf("%d rows to alter, %v", len(rows), err)
	}
	altered, gone := rows[0], rows[len(rows)-1]
	for _, statement := range []string{
		fmt.Sprintf("UPDATE flows SET sent = sent + 1 WHERE id = %d", altered.id),
		fmt.Sprintf("DELETE FROM flows WHERE id = %d", gone.id),
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--store", "sqlite"}, {"--store", "sqlite", "--against", "sqlserver"}} {
		a := d.Verb(0, "verify", append(args, d.Directories()...)...)
		lines := strings.Split(a.Stdout, "\n")
		if !slices.ContainsFunc(lines, func(line string) bool { return namesRange(line, altered.seq) }) {
			t.Errorf("verify %v does not say that record %d is among those that were altered:\n%s", args, altered.seq, a.Stdout)
		}
		missing := fmt.Sprintf("some are missing: %d", gone.seq)
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasSuffix(line, missing) }) {
			t.Errorf("verify %v does not say that record %d is missing:\n%s", args, gone.seq, a.Stdout)
		}
		if a.Code != 1 {
			t.Errorf("verify %v of an altered history: exit code %d: %s", args, a.Code, a.Stderr)
		}
	}
	if a := d.Verb(0, "db", append([]string{"check", "--store", "sqlite"}, d.Directories()...)...); a.Code != 1 {
		t.Errorf("db check of an altered history: exit code %d: %s", a.Code, a.Stdout)
	}
}

// namesRange tells whether a line says that the records around a sequence were altered: the hash is that of a batch.
func namesRange(line string, seq int64) bool {
	_, text, _ := strings.Cut(line, ": records ")
	var first, last int64
	n, err := fmt.Sscanf(text, "%d to %d were altered", &first, &last)
	return err == nil && n == 2 && first <= seq && seq <= last
}
