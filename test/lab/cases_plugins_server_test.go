package lab

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/test/dbserver"
)

// postgres keeps the history in PostgreSQL too: through the sandbox's grant of one peer, then of the server's socket.
func postgres(t *testing.T, l *Lab) {
	s := postgreSQL(t)
	keepIn(t, l, s, func(socket bool) (settings, settings) {
		to := settings{"client": "psycopg", "dbname": "picosnitch", "user": "admin", "password": "admin",
			"sslmode": "require", "host": "127.0.0.1", "port": s.Port}
		if !socket {
			return to, settings{}
		}
		to["host"] = s.Sockets
		return to, settings{"paths": settings{s.Sockets: "rw"}}
	})
}

// mariadb is the same with MariaDB.
func mariadb(t *testing.T, l *Lab) {
	s := mariaDB(t)
	keepIn(t, l, s, func(socket bool) (settings, settings) {
		to := settings{"client": "mariadb", "database": "picosnitch", "user": "keeper", "password": "secret of the lab"}
		if !socket {
			to["host"], to["port"] = "127.0.0.1", s.Port
			return to, settings{}
		}
		to["unix_socket"] = s.Socket
		return to, settings{"paths": settings{s.Sockets: "rw"}}
	})
}

// keepIn kills the server and the daemon between transfers and starts them again, and holds the server up: nothing is lost,
// sqlite and the server prove and answer the same, and what somebody altered in one of them is named.
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

	s.Kill()
	v.exchange(2002)
	d.WaitPlugin("sqlserver", func(p PluginStatus) bool { return p.State == "degraded" && p.Queued > 0 })
	d.Kill()
	d.Start()
	v.exchange(3003)
	s.Start()
	v.exchange(4004)

	connect, plugin = to(true)
	d.configure(settings{"DB sql server": connect, "Plugins": settings{"sqlserver": plugin}})
	pid := d.WaitPlugin("sqlserver", PluginStatus.Running).Pid
	d.reload()
	d.WaitPlugin("sqlserver", func(p PluginStatus) bool { return p.Running() && p.Pid != pid })
	v.exchange(5005)
	d.lags(s, func() { v.exchange(6006) })
	v.finish()
	c.Check()
	d.until("the server's rows", func() string { return c.unlike(s) })
	d.sameAnswers(c)
	d.soundAgainst("sqlserver")
	d.Stop()
	if wrong := c.unlike(s); wrong != "" {
		t.Errorf("after stop: %s", wrong)
	}
	d.soundAgainst("sqlserver") // without a daemon
	d.Start()
	d.wantRunning("sqlite", "sqlserver")
	tamper(t, d, c, s)
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
		a := d.verify("--against", store)
		if a.Code != 0 || !strings.Contains(a.Stdout, "nothing is missing and nothing was altered") {
			return fmt.Sprintf("exit code %d: %s%s", a.Code, a.Stdout, a.Stderr)
		}
		return ""
	})
}

// lags holds up what is written to the server: verify finds nothing, and says that batches wait.
func (d *Daemon) lags(s *server, move func()) {
	d.t.Helper()
	d.soundAgainst("sqlserver")
	release := s.hold()
	defer release()
	move()
	d.until("batches that wait", func() string {
		a := d.verify("--against", "sqlserver")
		if a.Code != 0 || strings.Contains(a.Stdout, "found:") {
			d.t.Fatalf("verify while the server is held up: exit code %d: %s%s", a.Code, a.Stdout, a.Stderr)
		}
		if !strings.Contains(a.Stdout, "wait to be delivered to sqlserver") {
			return a.Stdout
		}
		return ""
	})
}

// verify runs the verb on sqlite.
func (d *Daemon) verify(args ...string) Answer {
	d.t.Helper()
	return d.Verb(0, "verify", append(append([]string{"--store", "sqlite"}, args...), d.Directories()...)...)
}

// seen is a row that somebody tampers with.
type seen struct {
	id, seq, sent int64
	epoch         string
}

// tamper alters a row of sqlite and removes another one, as who has the file can, and does the same on the server, as its
// administrator: verify names them all.
func tamper(t *testing.T, d *Daemon, c *Case, s *server) {
	t.Helper()
	db, rows := d.ownRows(c)
	if len(rows) < 5 {
		t.Fatalf("%d rows to alter, want 5", len(rows))
	}
	altered, gone, theirs, lost := rows[0], rows[len(rows)-1], rows[1], rows[2]
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
	s.SQL(fmt.Sprintf("UPDATE connections SET send = send + 2 WHERE epoch = '%s' AND seq = %d", theirs.epoch, theirs.seq))
	s.SQL(fmt.Sprintf("DELETE FROM connections WHERE epoch = '%s' AND seq = %d", lost.epoch, lost.seq))
	own, both := d.verify(), d.verify("--against", "sqlserver")
	for _, a := range []Answer{own, both} {
		if !slices.ContainsFunc(strings.Split(a.Stdout, "\n"), func(line string) bool { return namesRange(line, altered.seq) }) {
			t.Errorf("verify does not say that record %d is among those that were altered:\n%s", altered.seq, a.Stdout)
		}
		if !strings.Contains(a.Stdout, fmt.Sprintf("some are missing: %d\n", gone.seq)) {
			t.Errorf("verify does not say that record %d is missing:\n%s", gone.seq, a.Stdout)
		}
		if a.Code != 1 {
			t.Errorf("verify of an altered history: exit code %d: %s", a.Code, a.Stderr)
		}
	}
	for row, text := range map[seen]string{
		altered: fmt.Sprintf("record %d is not the same in sqlserver: send is %d here and %d there\n", altered.seq, altered.sent+1, altered.sent),
		gone:    fmt.Sprintf("record %d is missing here, sqlserver has it\n", gone.seq),
		theirs:  fmt.Sprintf("record %d is not the same in sqlserver: send is %d here and %d there\n", theirs.seq, theirs.sent, theirs.sent+2),
		lost:    fmt.Sprintf("record %d: sqlserver does not have it\n", lost.seq),
	} {
		if !strings.Contains(both.Stdout, "run "+row.epoch+": "+text) {
			t.Errorf("verify --against sqlserver does not say %q\n%s", text, both.Stdout)
		}
	}
	if a := d.Verb(0, "db", append([]string{"check", "--store", "sqlite"}, d.Directories()...)...); a.Code != 1 {
		t.Errorf("db check of an altered history: exit code %d: %s", a.Code, a.Stdout)
	}
}

// ownRows opens the history and finds the case's rows that sent something.
func (d *Daemon) ownRows(c *Case) (*sql.DB, []seen) {
	d.t.Helper()
	file, err := filepath.EvalSymlinks(d.Database())
	if err != nil {
		d.t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		d.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	found, err := db.Query("SELECT id, seq, send, epoch FROM connections WHERE instr(exe, ?) = 1 AND send > 0 ORDER BY id", c.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer found.Close()
	var rows []seen
	for found.Next() {
		var r seen
		if err := found.Scan(&r.id, &r.seq, &r.sent, &r.epoch); err != nil {
			d.t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil {
		d.t.Fatal(err)
	}
	return db, rows
}

// namesRange tells whether a line says that the records around a sequence were altered: the hash is that of a batch.
func namesRange(line string, seq int64) bool {
	_, text, _ := strings.Cut(line, ": records ")
	var first, last int64
	n, err := fmt.Sscanf(text, "%d to %d were altered", &first, &last)
	return err == nil && n == 2 && first <= seq && seq <= last
}

// server is a database server of the lab's own, as a plugin in a sandbox uses it.
type server struct {
	*dbserver.Server
	t    *testing.T
	lock string // SQL that lets nobody write to connections until its session ends
}

func postgreSQL(t *testing.T) *server {
	t.Helper()
	return &server{Server: dbserver.PostgreSQL(t), t: t, lock: "BEGIN; LOCK TABLE connections_batches IN EXCLUSIVE MODE;"}
}

func mariaDB(t *testing.T) *server {
	t.Helper()
	s := &server{Server: dbserver.MariaDB(t), t: t, lock: "FLUSH TABLES WITH READ LOCK;"}
	s.SQL("CREATE USER keeper IDENTIFIED BY 'secret of the lab';" +
		"GRANT CREATE, CREATE VIEW, INSERT, SELECT ON picosnitch.* TO keeper")
	return s
}

// hold holds up everything that is written to connections, until release is called.
func (s *server) hold() (release func()) {
	s.t.Helper()
	cmd := s.Client(context.Background())
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	release = func() {
		_ = in.Close() // the session ends
		_ = cmd.Wait()
	}
	if _, err := io.WriteString(in, s.lock+" SELECT 'held';\n"); err != nil {
		release()
		s.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		release()
		s.t.Fatalf("lock: %q, %v", line, err)
	}
	return release
}

// sums adds up what programs below a directory did, and counts rows and their ids, which must be as many.
func (s *server) sums(dir string) (m moved, ids, rows int) {
	s.t.Helper()
	out, err := s.Try("SELECT concat(coalesce(sum(send), 0), ' ', coalesce(sum(recv), 0), ' '," +
		" count(DISTINCT concat(epoch, ' ', seq)), ' ', count(*)) FROM connections WHERE exe LIKE '" + dir + "/%'")
	if err != nil {
		return m, -1, 0 // no table yet, or no server
	}
	if _, err := fmt.Sscan(out, &m.Sent, &m.Received, &ids, &rows); err != nil {
		s.t.Fatalf("sums: %v: %s", err, out)
	}
	return m, ids, rows
}
