package lab

import (
	"bytes"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

// history is looked after with the daemon running and stopped: each way out of it gives the same bytes.
func history(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.Start()
	c := NewCase(t, l, d)
	c.talk(4242)
	c.Check()
	dir := ownersDir(t)
	first, second := filepath.Join(dir, "first.db"), filepath.Join(dir, "second.db")
	oldRows(t, first, 50)
	oldRows(t, second, 40)
	d.lookAfter(c, "running", first)
	d.Stop()
	d.lookAfter(c, "stopped", second, first)
}

// ownersDir is where the owner of the configuration may write.
func ownersDir(t *testing.T) string {
	t.Helper()
	dir := trusted(t)
	if err := os.Chown(dir, ownerUID, ownerUID); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lookAfter runs every db verb as the owner, who is not root. Of old, and of what was imported before, each row must be there
// once.
func (d *Daemon) lookAfter(c *Case, when, old string, before ...string) {
	d.t.Helper()
	dir := ownersDir(c.T)
	run := func(args ...string) string {
		d.t.Helper()
		a := d.Verb(ownerUID, "db", append(args, d.Directories()...)...)
		if a.Code != 0 {
			d.t.Errorf("daemon %s: db %v: exit code %d: %s%s", when, args, a.Code, a.Stdout, a.Stderr)
		}
		return a.Stdout
	}
	if text := run("check"); !strings.Contains(text, "sound") {
		d.t.Errorf("daemon %s: db check: %s", when, text)
	}
	run("vacuum")
	want := moved{}
	for _, m := range c.truth() {
		want = moved{want.Sent + m.Sent, want.Received + m.Received}
	}
	where := []string{"--where", "exe^=" + c.dir}
	for format, sum := range map[string]func(*testing.T, string) moved{"csv": csvSum, "json": jsonSum, "parquet": parquetSum} {
		file := filepath.Join(dir, "out."+format)
		run(append([]string{"export", file}, where...)...)
		if have := sum(c.T, file); have != want {
			d.t.Errorf("daemon %s: %s has %+v, not %+v", when, format, have, want)
		}
		wantOwner(c.T, file, ownerUID, 0o600)
	}
	copied := filepath.Join(dir, "copy.db")
	run("backup", copied)
	if have := sqlSum(c.T, copied, "instr(exe, '"+c.dir+"') = 1"); have != want {
		d.t.Errorf("daemon %s: the copy has %+v, not %+v", when, have, want)
	}
	first, again := run("import", old), run("import", old)
	if !strings.Contains(again, "0 rows imported") {
		d.t.Errorf("daemon %s: the same file again: %s", when, again)
	}
	d.t.Logf("daemon %s: import: %s, again: %s", when, strings.TrimSpace(first), strings.TrimSpace(again))
	run("export", filepath.Join(dir, "all.csv"), "--where", "exe^=/old/")
	want = moved{}
	for _, file := range append(before, old) {
		m := sqlSum(c.T, file, "true")
		want = moved{want.Sent + m.Sent, want.Received + m.Received}
	}
	if have := csvSum(c.T, filepath.Join(dir, "all.csv")); have != want {
		d.t.Errorf("daemon %s: imported %+v, not %+v", when, have, want)
	}
	run("check")
}

func csvSum(t *testing.T, path string) (m moved) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return m
	}
	rows, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil || len(rows) == 0 || len(rows[0]) < 17 || rows[0][1] != "send" || rows[0][2] != "recv" {
		t.Errorf("%s: %d rows, %v", path, len(rows), err)
		return m
	}
	for _, row := range rows[1:] {
		sent, err := strconv.ParseUint(row[1], 10, 64)
		received, err2 := strconv.ParseUint(row[2], 10, 64)
		if err != nil || err2 != nil {
			t.Errorf("%s: %v", path, row)
		}
		m = moved{m.Sent + sent, m.Received + received}
	}
	return m
}

func jsonSum(t *testing.T, path string) (m moved) {
	t.Helper()
	for _, line := range readLines(t, path) {
		var row struct{ Send, Recv uint64 }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Errorf("%s: %v: %s", path, err, line)
		}
		m = moved{m.Sent + row.Send, m.Received + row.Recv}
	}
	return m
}

func parquetSum(t *testing.T, path string) (m moved) {
	t.Helper()
	type row struct {
		Send int64 `parquet:"send"`
		Recv int64 `parquet:"recv"`
	}
	rows, err := parquet.ReadFile[row](path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	for _, r := range rows {
		m = moved{m.Sent + uint64(r.Send), m.Received + uint64(r.Recv)}
	}
	return m
}

func sqlSum(t *testing.T, path, where string) moved {
	t.Helper()
	m, err := readSum(path, where)
	if err != nil {
		t.Error(err)
	}
	return m
}

func readSum(path, where string) (m moved, err error) {
	db, err := openDatabase(path)
	if err != nil {
		return m, err
	}
	defer db.Close()
	row := db.QueryRow("SELECT coalesce(sum(send), 0), coalesce(sum(recv), 0) FROM connections WHERE " + where)
	if err := row.Scan(&m.Sent, &m.Received); err != nil {
		return m, fmt.Errorf("sum up %s: %w", path, err)
	}
	return m, nil
}

// odd are command lines of 1.0.3 that broke other programs: arguments end with NUL, bytes are whatever they are.
func odd() []string {
	return []string{
		"/bin/sh\x00-c\x00echo \"it's\"\x00", "two\nlines\x00", "caf\xc3\xa9\x00", "not utf-8 \xff\xfe\x00", "back\\slash\x00", "a,b;--'\x00",
	}
}

// oldRows writes a database of 1.0.3, of yesterday, in its schema.
func oldRows(t *testing.T, path string, rows int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`PRAGMA user_version = 3;
		CREATE TABLE connections (contime text, send integer, recv integer, exe text, name text, cmdline text, sha256 text,
			pexe text, pname text, pcmdline text, psha256 text, uid integer, lport integer, rport integer, laddr text,
			raddr text, domain text)`)
	if err != nil {
		t.Fatal(err)
	}
	insert := "INSERT INTO connections VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	for i := range rows {
		when := time.Now().Add(-24*time.Hour - time.Duration(i)*time.Minute).Format("2006-01-02 15:04:05")
		command := []byte(odd()[i%len(odd())])
		_, err := db.Exec(insert, when, 1000+i, 7*i, fmt.Sprintf("/old/it's \"%d\"", i%5), "old", command, strings.Repeat("ab", 32),
			"/sbin/init", "init", "init", strings.Repeat("cd", 32), 1000, 40000+i, 443, "192.0.2.1", "192.0.2.2", "org.example")
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

// takeover starts over a database of 1.0.3: its rows are answered with the sums that they had there, and the file is kept.
func takeover(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	oldRows(t, d.Database(), 600)
	if err := os.Chown(d.Database(), ownerUID, ownerUID); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(d.Database())
	if err != nil {
		t.Fatal(err)
	}
	want := sqlSum(t, d.Database(), "true")
	d.Start()
	sums := func() string {
		have, err := readSum(d.Database(), "instr(exe, '/old/') = 1")
		if err != nil || have != want {
			return fmt.Sprintf("%+v, not %+v: %v", have, want, err)
		}
		return ""
	}
	d.until("what was taken over", sums)
	witness(t, l, d)
	answer := d.must("query", "--by", "name", "--where", "exe^=/old/", "--json")
	if !strings.Contains(answer, fmt.Sprint(want.Sent)) || !strings.Contains(answer, fmt.Sprint(want.Received)) {
		t.Errorf("query answers %s, not %+v", answer, want)
	}
	for _, exe := range []string{`/old/it's "0"`, `/old/it's "4"`} {
		here := sqlSum(t, filepath.Join(d.Config, "snitch-1.0.3.db"), "exe = '"+strings.ReplaceAll(exe, "'", "''")+"'")
		answer := d.must("query", "--by", "exe", "--where", "exe="+exe, "--json")
		if here.Sent == 0 || !strings.Contains(answer, fmt.Sprint(here.Sent)) {
			t.Errorf("query for %s answers %s, not %+v", exe, answer, here)
		}
	}
	d.Stop()
	if wrong := sums(); wrong != "" {
		t.Errorf("after stop: %s", wrong)
	}
	after, err := os.ReadFile(filepath.Join(d.Config, "snitch-1.0.3.db"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the old file is not what it was: %v", err)
	}
	d.Start()
	d.WaitPlugin("sqlite", PluginStatus.Running)
	again := NewCase(t, l, d)
	again.dir += "-again"
	again.talk(200)
	again.Check()
	d.Stop()
	if wrong := sums(); wrong != "" {
		t.Errorf("after another start: %s", wrong)
	}
}
