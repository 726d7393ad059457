package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// oldTables are the tables of the versions of picosnitch up to 1.0.3.
var oldTables = map[int]string{
	0: `CREATE TABLE connections (contime text, send integer, recv integer, exe text, name text, cmdline text, sha256 text,
uid integer, port integer, ip text, domain text);`,
	3: `CREATE TABLE connections (contime text, send integer, recv integer, exe text, name text, cmdline text, sha256 text,
pexe text, pname text, pcmdline text, psha256 text, uid integer, lport integer, rport integer, laddr text, raddr text, domain text);`,
}

// text is a text value of any bytes.
func text(s string) string { return fmt.Sprintf("CAST(x'%x' AS TEXT)", s) }

// oldRows are rows of 1.0.3 with whatever text a process may have.
func oldRows() string {
	var b strings.Builder
	b.WriteString(oldTables[3] + "BEGIN;\n")
	for i, exe := range append(hostile(), "/usr/bin/curl", "/usr/bin/curl") {
		fmt.Fprintf(&b, "INSERT INTO connections VALUES ('2026-11-%02d 12:00:%02d', %d, %d, %s, %s, %s, '%064x', '/usr/bin/bash', 'bash', %s, '!!! FD Read Error', %d, %d, 443, '192.168.1.2', '93.184.216.34', %s);\n",
			1+i, i, i+1, 1000*(i+1), text(exe), text("name\n"+exe), text("cmd\x00-x\x00"+exe+"\x00"), i, text("bash\x00"), 1000+i, 40000+i,
			text("org.example.host"+fmt.Sprint(i)))
	}
	b.WriteString("COMMIT; PRAGMA user_version = 3;")
	return b.String()
}

func doImport(t *testing.T, s *Store, raw []byte) *wire.ImportProgress {
	t.Helper()
	var last *wire.ImportProgress
	err := s.Import(t.Context(), "old.db", uint64(len(raw)), bytes.NewReader(raw), func(p *wire.ImportProgress) error {
		last = p
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func TestADatabaseOf103IsImportedWithEveryByteAndOnlyOnce(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	raw := makeFile(t, filepath.Join(t.TempDir(), "old.db"), oldRows())
	rows := len(hostile()) + 2
	if p := doImport(t, s, raw); p.GetRows() != uint64(rows) || !p.GetDone() || p.GetSkipped() != 0 || p.GetTotal() != uint64(rows) {
		t.Errorf("got %v", p)
	}
	if p := doImport(t, s, raw); p.GetSkipped() != uint64(rows) || !p.GetDone() {
		t.Errorf("the second time: got %v", p)
	}
	wantValue(t, s, fmt.Sprintf("%d %d %d", rows, rows*(rows+1)/2, 1000*rows*(rows+1)/2),
		"SELECT count(*) || ' ' || sum(send) || ' ' || sum(recv) FROM connections")
	for i, exe := range hostile() {
		q := &wire.Query{By: []string{"name", "domain", "raddr", "uid"}, Where: all(equal("exe", exe), equal("lport", fmt.Sprint(40000+i)))}
		wantRows(t, s, q, fmt.Sprintf("name\n%s org.example.host%d 93.184.216.34 %d %d/%d/1", exe, i, 1000+i, i+1, 1000*(i+1)))
		wantValue(t, s, fmt.Sprintf("2026-11-%02d 12:00:%02d", 1+i, i), "SELECT contime FROM connections WHERE lport = ?", 40000+i)
	}
	wantValue(t, s, "cmd -x '/bin/new\\x0aline\\x09tab'", "SELECT cmdline FROM connections WHERE lport = 40002")
	wantValue(t, s, "bash unreadable", "SELECT DISTINCT pcmdline || ' ' || phash_status FROM connections")
	wantValue(t, s, "0", "SELECT count(*) FROM batches b JOIN epochs e ON e.id = b.epoch WHERE e.origin = ''")
	if marks, err := s.Watermarks(t.Context()); err != nil || len(marks) != 0 {
		t.Errorf("the host would be told of a run that it does not know: %v, %v", marks, err)
	}
	wantSound(t, s)
}

func TestTheFirstVersionsOf103AreImportedToo(t *testing.T) {
	t.Parallel()
	for version := range 4 {
		table, ok := oldTables[version]
		if !ok {
			table = oldTables[3]
		}
		s := open(t, t.TempDir())
		raw := makeFile(t, filepath.Join(t.TempDir(), "old.db"), table+fmt.Sprintf("INSERT INTO connections (contime, send, recv, exe, name, uid) VALUES "+
			"('2026-11-01 10:00:00', 5, 7, '/bin/a', 'a', 0); UPDATE connections SET %s = '10.1.2.3'; PRAGMA user_version = %d",
			map[bool]string{true: "raddr", false: "ip"}[version > 0], version))
		doImport(t, s, raw)
		wantValue(t, s, "/bin/a 5 7 0 10.1.2.3 -1", "SELECT exe || ' ' || send || ' ' || recv || ' ' || uid || ' ' || raddr || ' ' || lport FROM connections")
	}
}

// tables2 are the tables of picosnitch 2.x, user_version 4, with the rows that stand for what is not known.
const tables2 = `
CREATE TABLE executables (id INTEGER PRIMARY KEY, exe TEXT NOT NULL, name TEXT NOT NULL, cmdline TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT;
CREATE TABLE domains (id INTEGER PRIMARY KEY, domain TEXT NOT NULL) STRICT;
CREATE TABLE addresses (id INTEGER PRIMARY KEY, addr TEXT NOT NULL) STRICT;
CREATE TABLE connections (contime INTEGER NOT NULL, send INTEGER NOT NULL, recv INTEGER NOT NULL, events INTEGER NOT NULL,
exe_id INTEGER NOT NULL, pexe_id INTEGER NOT NULL, gpexe_id INTEGER NOT NULL, uid INTEGER NOT NULL, family INTEGER NOT NULL,
protocol INTEGER NOT NULL, lport INTEGER NOT NULL, rport INTEGER NOT NULL, laddr_id INTEGER NOT NULL, raddr_id INTEGER NOT NULL,
domain_id INTEGER NOT NULL, netns INTEGER NOT NULL) STRICT;
INSERT INTO executables VALUES (0, '', '', '', ''); INSERT INTO domains VALUES (0, ''); INSERT INTO addresses VALUES (0, '');
PRAGMA user_version = 4;`

// TestADatabaseOf2IsImported has what 2.x writes: domains turned round, or the address where no name was known; command
// lines quoted for a shell, two apostrophes where there was none; frames of packet sockets among the rest; and executions.
func TestADatabaseOf2IsImported(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	raw := makeFile(t, filepath.Join(t.TempDir(), "picosnitch.db"), tables2+`
INSERT INTO executables VALUES (1, '/bin/a', 'a', 'a -x ''two words'' ''it''"''"''s''', printf('%064x', 7)), (2, '/bin/b', 'b', 'b', ''),
(3, '/bin/c', 'c', 'c', ''), (4, '', '', '''''', '');
INSERT INTO domains VALUES (1, 'org.example.www'), (2, '10.0.0.9'); INSERT INTO addresses VALUES (1, '10.0.0.1'), (2, '2001:db8::1'), (3, '10.0.0.9');
INSERT INTO connections VALUES (1795262400, 5, 7, 3, 1, 2, 3, 1000, 10, 17, 1, 443, 1, 2, 1, 42), (1795262401, 1, 2, 3, 2, 3, 4, 0, 2, 6, 2, 80, 1, 3, 2, 42),
(1795262402, 100, 200, 9, 2, 3, 4, 0, 17, 0, 0, 0, 0, 0, 0, 42), (1795262403, 0, 0, 1, 3, 4, 4, 0, 0, 0, -1, -1, 0, 0, 0, 0);`)
	if p := doImport(t, s, raw); p.GetRows() != 4 {
		t.Errorf("got %v, want 4 rows", p)
	}
	wantValue(t, s, "/bin/a b /bin/c 17 2001:db8::1 org.example.www 42 1795262400", `SELECT exe || ' ' || pname || ' ' || gexe || ' ' || protocol
|| ' ' || raddr || ' ' || domain || ' ' || netns || ' ' || (window_end / 1000000000) FROM connections WHERE uid = 1000`)
	wantValue(t, s, `a -x 'two words' 'it'"'"'s' `+strings.Repeat("0", 63)+"7", "SELECT cmdline || ' ' || sha256 FROM connections WHERE uid = 1000")
	wantValue(t, s, "/bin/b 10.0.0.9 '' ''", "SELECT exe || ' ' || domain || ' ' || quote(gexe) || ' ' || quote(gcmdline) FROM connections WHERE rport = 80")
	wantValue(t, s, "/bin/c -1 '' ''", "SELECT exe || ' ' || lport || ' ' || quote(raddr) || ' ' || quote(pcmdline) FROM connections WHERE rport = -1")
	wantValue(t, s, "6 9", "SELECT sum(send) || ' ' || sum(recv) FROM connections")
	wantRows(t, s, &wire.Query{By: []string{"layer", "name"}, Where: equal("layer", "packet")}, "packet b 100/200/1")
	wantRows(t, s, &wire.Query{By: []string{"site"}}, " 1/2/2", "org.example 5/7/1")
	wantSound(t, s)
}

func TestAddressesOfAnOldFileKeepTheirScope(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"fe80::1": "fe80::1", "fe80::1%3": "fe80::1%3", "fe80::1%eth0": "fe80::1", "fe80::1%99999999999": "fe80::1",
		"::ffff:192.0.2.1": "192.0.2.1", "printer.lan": "", "": "",
	} {
		if got := sdk.Address(endpoint(text, "443")); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestArgumentsOfAnOldCommandLineAreFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "",
		"''":                    "",
		"curl -s x":             "curl\x00-s\x00x",
		"a\x00b\x00\x00":        "a\x00b",
		"sh -c 'a \"b\"; c' ''": "sh\x00-c\x00a \"b\"; c\x00",
		`'a'"'"'b'`:             "a'b",
		"it's":                  "it's",
		"'''":                   "'''",
		"a  b":                  "a  b",
		`sh -c "x y"`:           `sh -c "x y"`,
		"'a\nb' '\xff'":         "a\nb\x00\xff",
	} {
		if got := arguments(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestAnImportThatWasInterruptedGoesOn(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	raw := makeFile(t, filepath.Join(t.TempDir(), "old.db"), oldTables[3]+`WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 4500)
INSERT INTO connections SELECT '2026-11-01 10:00:00', i, 0, '/bin/' || i % 50, 'x', '', '', '', '', '', '', 0, 1, 2, '', '', '' FROM n; PRAGMA user_version = 3;`)
	s := open(t, directory)
	stop := errors.New("stop")
	err := s.Import(t.Context(), "old.db", uint64(len(raw)), bytes.NewReader(raw), func(p *wire.ImportProgress) error {
		if p.GetRows() >= 2000 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if p := doImport(t, s, raw); p.GetSkipped() != 2000 || p.GetRows() != 4500 {
		t.Errorf("got %v", p)
	}
	wantValue(t, s, fmt.Sprint(4500*4501/2), "SELECT sum(send) FROM connections")
	if left, _ := filepath.Glob(filepath.Join(directory, "*.tmp*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRowsTooOldToStayAreAnnouncedBeforeAnyIsStored(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	s.now = func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.Local) }
	for _, c := range []struct {
		days int
		want string
	}{{30, "2 of 3 rows of the file are older than the 30 days"}, {0, ""}} {
		s.config.retention = time.Duration(c.days) * 24 * time.Hour
		raw := makeFile(t, filepath.Join(t.TempDir(), "old.db"), oldTables[3]+fmt.Sprintf(`INSERT INTO connections (contime, send, recv, exe) VALUES
('2026-01-01 10:00:00', %[1]d, 7, '/bin/a'), ('2026-10-22 11:59:59', 5, 7, '/bin/a'), ('2026-10-22 12:00:00', 5, 7, '/bin/a'); PRAGMA user_version = 3`, c.days))
		var first, last *wire.ImportProgress
		err := s.Import(t.Context(), "old.db", uint64(len(raw)), bytes.NewReader(raw), func(p *wire.ImportProgress) error {
			if first == nil {
				first = p
			}
			last = p
			return nil
		})
		switch {
		case err != nil:
			t.Fatal(err)
		case c.want != "" && (first.GetRows() != 0 || !strings.HasPrefix(first.GetText(), c.want)) || c.want == "" && first.GetText() != "":
			t.Errorf("%d days: the first word is %v, want %q before any row", c.days, first, c.want)
		case !strings.Contains(last.GetText(), "3 rows imported") || !strings.Contains(last.GetText(), c.want) || !last.GetDone():
			t.Errorf("%d days: the last word is %v, want %q in it", c.days, last, c.want)
		}
	}
}

func TestAFileIsImportedOnceWhetherOrNotTheHostIsKnown(t *testing.T) {
	t.Parallel()
	raw := makeFile(t, filepath.Join(t.TempDir(), "old.db"), oldRows())
	rows := len(hostile()) + 2
	for name, c := range map[string]struct {
		hosts [][16]byte // of the openings of the store that each import the file
		want  string     // host of the rows; the store has a batch of host 01
	}{
		"unknown": {[][16]byte{{}, {}}, "01"}, "unknown, then known": {[][16]byte{{}, {1}}, "01"},
		"known, then unknown": {[][16]byte{{1}, {}}, "01"}, "another host's, then unknown": {[][16]byte{{2}, {}}, "02"},
	} {
		directory := t.TempDir()
		s := open(t, directory)
		apply(t, s, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "")))
		for i, host := range c.hosts {
			s.settings.HostID = host
			if p := doImport(t, s, raw); p.GetSkipped() != uint64(i*rows) || p.GetRows() != uint64(rows) {
				t.Errorf("%s: import %d: %v", name, i+1, p)
			}
		}
		wantValue(t, s, fmt.Sprint(rows+1), "SELECT count(*) FROM connections")
		wantValue(t, s, c.want, "SELECT DISTINCT substr(host_id, 1, 2) FROM connections WHERE lport >= 40000 AND exe <> '/bin/a'")
	}
}

func TestAFileIsImportedIntoAnEmptyStoreWithoutAHost(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	raw := makeFile(t, filepath.Join(t.TempDir(), "old.db"), oldRows())
	s.settings.HostID = [16]byte{}
	doImport(t, s, raw)
	s.settings.HostID = [16]byte{1} // the daemon, at last
	if p := doImport(t, s, raw); p.GetSkipped() != p.GetRows() {
		t.Errorf("imported again: %v", p)
	}
}

func TestFilesThatAreNoDatabasesOfPicosnitchAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	other := makeFile(t, filepath.Join(t.TempDir(), "x"), "CREATE TABLE bookmarks (y)")
	ours := makeFile(t, filepath.Join(t.TempDir(), "y"), "CREATE TABLE t (contime, exe, window_end); CREATE VIEW connections AS SELECT * FROM t")
	for name, raw := range map[string][]byte{
		"text": []byte("hello"), "empty": nil, "another program's": other, "short": other[:len(other)/2], "this version's": ours,
	} {
		err := s.Import(t.Context(), name, uint64(len(raw)), bytes.NewReader(raw), func(*wire.ImportProgress) error { return nil })
		if !errors.Is(err, sdk.ErrQuery) {
			t.Errorf("%s: got %v, want %v", name, err, sdk.ErrQuery)
		}
	}
	if err := s.Import(t.Context(), "cut", 10, strings.NewReader("short"), nil); !errors.Is(err, sdk.ErrQuery) {
		t.Errorf("fewer bytes than said: got %v", err)
	}
}

func TestTheOldDatabaseIsTakenOverInTheBackgroundAndKept(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	want := makeFile(t, filepath.Join(directory, oldFile), oldRows())
	for range 2 { // the second start finds it done
		s := New()
		settings := sdk.Settings{Directory: directory, Config: []byte(`{"retention_days": 0}`), HostID: [16]byte{1}}
		if err := s.Configure(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		rows := fmt.Sprint(len(hostile()) + 2)
		for deadline := time.Now().Add(30 * time.Second); value(t, s, "SELECT count(*) FROM state WHERE name LIKE 'imported %'") != "1"; {
			if time.Now().After(deadline) {
				t.Fatal("not imported", s.Health(t.Context()))
			}
			time.Sleep(10 * time.Millisecond)
		}
		wantValue(t, s, rows, "SELECT count(*) FROM connections")
		if err := s.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(want, contents(t, filepath.Join(directory, oldFile))) {
		t.Error("the old file was changed")
	}
	names, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, n := range names {
		left = append(left, n.Name())
	}
	if diff := cmp.Diff([]string{oldFile, fileName}, left); diff != "" {
		t.Error(diff)
	}
}

func TestAnOldDatabaseThatCannotBeReadIsSaidAndChangesNothingElse(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, oldFile), []byte(strings.Repeat("no database", 99)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, directory)
	for deadline := time.Now().Add(30 * time.Second); s.Health(t.Context()) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("health says nothing")
		}
	}
	if err := s.Health(t.Context()); !strings.Contains(err.Error(), oldFile) {
		t.Errorf("health: %v", err)
	}
	apply(t, s, batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "")))
}
