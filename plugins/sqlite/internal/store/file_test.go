package store

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/test/need"
)

const legacyTable = `CREATE TABLE connections (contime text, send integer, recv integer, exe text, name text, cmdline text,
sha256 text, pexe text, pname text, pcmdline text, psha256 text, uid integer, lport integer, rport integer, laddr text,
raddr text, domain text);
INSERT INTO connections (contime, send, exe) VALUES ('2024-01-01 00:00:00', 5, CAST(x'2f62696eff' AS TEXT));`

// makeFile makes a database with a script, closes it and gives its bytes.
func makeFile(t *testing.T, path, script string) []byte {
	t.Helper()
	db := sql.OpenDB(connector{&sqlite.Driver{}, dsn(path, "mode=rwc")})
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return contents(t, path)
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func configure(t *testing.T, directory string, change func(*sdk.Settings)) (*Store, error) {
	t.Helper()
	s := New()
	settings := sdk.Settings{Directory: directory, HostID: [16]byte{1}}
	if change != nil {
		change(&settings)
	}
	err := s.Configure(t.Context(), settings)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Drain(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
				t.Errorf("drain: %v", err)
			}
		})
	}
	return s, err
}

func TestAFileOf103IsSetAsideUntouched(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0", "1", "2", "3"} {
		directory := t.TempDir()
		path := filepath.Join(directory, fileName)
		want := makeFile(t, path, legacyTable+"PRAGMA user_version = "+version)
		if err := os.WriteFile(path+"-journal", []byte("of a transaction that died"), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, directory)
		apply(t, s, newGenerator(1).Batch(3))
		aside := filepath.Join(directory, "snitch-1.0.3.db")
		if !bytes.Equal(want, contents(t, aside)) {
			t.Errorf("version %s: the file was changed", version)
		}
		if got := string(contents(t, aside+"-journal")); got != "of a transaction that died" {
			t.Errorf("version %s: its journal: %q", version, got)
		}
	}
}

func TestASecond103FileDoesNotReplaceTheFirst(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "snitch-1.0.3.db"), []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	makeFile(t, filepath.Join(directory, fileName), legacyTable)
	open(t, directory)
	if got := string(contents(t, filepath.Join(directory, "snitch-1.0.3.db"))); got != "first" {
		t.Errorf("the first one is now %q", got)
	}
	if all, _ := filepath.Glob(filepath.Join(directory, "snitch-1.0.3.db.*")); len(all) != 1 {
		t.Errorf("got %v, want one more file", all)
	}
}

func TestA103FileThatSomebodyHasOpenIsLeftAlone(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	path := filepath.Join(directory, fileName)
	makeFile(t, path, legacyTable)
	db := sql.OpenDB(connector{&sqlite.Driver{}, dsn(path, "mode=rw")})
	defer db.Close()
	var rows int // read, so that the file is open; no lock is held any more
	if err := db.QueryRow("SELECT count(*) FROM connections").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if _, err := configure(t, directory, nil); !errors.Is(err, errInUse) || errors.Is(err, sdk.ErrConfig) {
		t.Fatalf("got %v, want %v, which passes", err, errInUse)
	}
	if _, err := db.Exec("UPDATE connections SET send = 6"); err != nil {
		t.Errorf("the other program was disturbed: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestFilesThatAPersonMustDecideAboutAreRefusedUnchanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script, want string }{
		{"newer", "CREATE TABLE x (y);" + stamp(version+1), "newer picosnitch"},
		{"another program's version", "CREATE TABLE x (y); PRAGMA user_version = 7", "another program"},
		{"another program's tables", "CREATE TABLE bookmarks (y)", "another program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			path := filepath.Join(directory, fileName)
			want := makeFile(t, path, c.script)
			_, err := configure(t, directory, nil)
			if !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a configuration error that says %q", err, c.want)
			}
			if !bytes.Equal(want, contents(t, path)) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestASymlinkInPlaceOfTheFileIsRefused(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(directory, fileName)); err != nil {
		t.Fatal(err)
	}
	if _, err := configure(t, directory, nil); !errors.Is(err, sdk.ErrConfig) {
		t.Errorf("got %v, want a configuration error", err)
	}
}

func TestADamagedFileIsSetAsideAndANewOneBegins(t *testing.T) {
	t.Parallel()
	good := makeFile(t, filepath.Join(t.TempDir(), "x"), legacyTable)
	for name, raw := range map[string][]byte{
		"text":  []byte(strings.Repeat("no database ", 100)),
		"short": []byte("SQLite"),
		"page":  append(bytes.Clone(good[:100]), bytes.Repeat([]byte{0xee}, len(good)-100)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := t.TempDir()
			if err := os.WriteFile(filepath.Join(directory, fileName), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, directory)
			apply(t, s, newGenerator(1).Batch(3))
			aside, _ := filepath.Glob(filepath.Join(directory, "snitch.db.corrupt-*Z"))
			if len(aside) != 1 || !bytes.Equal(raw, contents(t, aside[0])) {
				t.Errorf("set aside: %v", aside)
			}
		})
	}
}

func TestADamagedFileIsLeftToAPersonWhoLooksAfterItWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	path := filepath.Join(directory, fileName)
	s := open(t, directory)
	apply(t, s, newGenerator(1).Batch(300))
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := contents(t, path)
	for name, raw := range map[string][]byte{
		"no database": bytes.Repeat([]byte("x"), 4096), "pages": append(bytes.Clone(whole[:100]), bytes.Repeat([]byte{0xee}, len(whole)-100)...),
	} {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := configure(t, directory, func(s *sdk.Settings) { s.HostID = [16]byte{} })
		if !corrupt(err) || !strings.Contains(err.Error(), path+" is damaged") {
			t.Errorf("%s: got %v", name, err)
		}
		if !bytes.Equal(contents(t, path), raw) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if names, _ := filepath.Glob(path + ".*"); len(names) > 0 {
		t.Errorf("set aside: %q", names)
	}
}

func TestTheFileIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	apply(t, s, newGenerator(1).Batch(3))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(s.path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want 0600", suffix, info.Mode(), err)
		}
	}
}

func TestAnOpenedFileIsOpenedAgain(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	g := newGenerator(1)
	for range 3 {
		s := open(t, directory)
		apply(t, s, g.Batch(10))
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	wantValue(t, open(t, directory), "30", "SELECT count(*) FROM connections")
}

func TestReadOnlyAnswersBesideAWriterAndAlone(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	writer := open(t, directory)
	apply(t, writer, newGenerator(1).Batch(10))
	readOnly := func(s *sdk.Settings) { s.ReadOnly = true }
	beside, err := configure(t, directory, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, beside, "10", "SELECT count(*) FROM connections")
	if err := beside.Apply(t.Context(), newGenerator(1).Batch(10)); err == nil {
		t.Error("a read-only store took a batch")
	}
	if _, err := beside.readers.Load().Exec("DELETE FROM flows"); err == nil {
		t.Error("a read-only store deleted rows")
	}
	if err := writer.close(); err != nil {
		t.Fatal(err)
	}
	alone, err := configure(t, directory, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, alone, "10", "SELECT count(*) FROM connections")
	if _, err := configure(t, t.TempDir(), readOnly); !errors.Is(err, sdk.ErrConfig) {
		t.Errorf("without a file: got %v, want a configuration error", err)
	}
}

// TestReadOnlyOnAFileSystemThatIsReadOnly needs root for the mount.
func TestReadOnlyOnAFileSystemThatIsReadOnly(t *testing.T) {
	t.Parallel()
	directory := need.Disk(t, "size=4m")
	s := open(t, directory)
	apply(t, s, newGenerator(1).Batch(10))
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", directory, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	alone, err := configure(t, directory, func(s *sdk.Settings) { s.ReadOnly = true })
	if err != nil {
		t.Fatal(err)
	}
	wantValue(t, alone, "10", "SELECT count(*) FROM connections")
	if err := alone.close(); err != nil {
		t.Fatal(err)
	}
}

// TestAFullFileSystemIsARetry needs root for the mount.
func TestAFullFileSystemIsARetry(t *testing.T) {
	t.Parallel()
	directory := need.Disk(t, "size=1m")
	s := open(t, directory)
	g := newGenerator(1)
	apply(t, s, g.Batch(10))
	ballast := filepath.Join(directory, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 600<<10), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	b := g.Batch(1000)
	wantRetry(t, s.Apply(t.Context(), b), "no space left")
	wantValue(t, s, "10", "SELECT count(*) FROM connections")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	apply(t, s, b)
	wantValue(t, s, "1010", "SELECT count(*) FROM connections")
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// TestAReadOnlyFileSystemIsARetry needs root for the mount.
func TestAReadOnlyFileSystemIsARetry(t *testing.T) {
	t.Parallel()
	directory := need.Disk(t, "size=8m")
	s := open(t, directory)
	g := newGenerator(1)
	apply(t, s, g.Batch(10))
	if err := s.close(); err != nil { // a file system with a file open to be written cannot be made read-only
		t.Fatal(err)
	}
	if err := unix.Mount("", directory, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	b := g.Batch(10)
	wantRetry(t, s.Apply(t.Context(), b), "read-only")
	if err := s.Health(t.Context()); err == nil {
		t.Error("health says nothing")
	}
	if err := unix.Mount("", directory, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	apply(t, s, b)
	wantValue(t, s, "20", "SELECT count(*) FROM connections")
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheSqlite3ShellReadsWhileTheStoreWrites(t *testing.T) {
	t.Parallel()
	shell := need.Program(t, "sqlite3")
	s := open(t, t.TempDir())
	g := newGenerator(1)
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := s.Apply(t.Context(), g.Batch(200)); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 10 {
		out, err := exec.Command(shell, "-readonly", s.path, "SELECT count(*) % 200, sum(send) > -1 FROM connections").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || (got != "0|1" && got != "0|") {
			t.Errorf("sqlite3: %v: %s", err, got)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("apply: %v", err)
	}
	out, err := exec.Command(shell, s.path, "DELETE FROM connections WHERE contime < '2100'; SELECT count(*) FROM flows").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Errorf("delete with sqlite3: %v: %s", err, out)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"retention_days": -1}`:                 "retention_days",
		`{"retention_days": "30"}`:               "retention_days",
		`{"retention_days": 1.5}`:                "retention_days",
		`{"retention_days": null}`:               "retention_days",
		`{"retention_days": 30, "retention": 1}`: "retention: there is no such setting",
		`{"retention_bytes": 1000}`:              "retention_bytes",
		`{"retention_bytes": "1 GB"}`:            "retention_bytes",
		`{"retention_bytes": -1}`:                "retention_bytes",
		`[]`:                                     "want an object",
	} {
		if _, err := parseConfig([]byte(raw)); !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a configuration error with %s", raw, err, want)
		}
	}
	for raw, days := range map[string]float64{"": 30, "{}": 30, `{"retention_days": 0}`: 0, `{"retention_days": 365}`: 365} {
		if c, err := parseConfig([]byte(raw)); err != nil || c.retention.Hours() != days*24 {
			t.Errorf("%q: got %v, %v, want %v days", raw, c.retention, err, days)
		}
	}
}
