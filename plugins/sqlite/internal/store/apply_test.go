package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// hostile are texts that break what does not take care.
func hostile() []string {
	return []string{"/bin/'; DROP TABLE flows; --", `/bin/"quoted" $(x)`, "/bin/new\nline\ttab", "/bin/\xff\xfe", `/bin/back\slash\x41`,
		"/bin/\x1b[31mred", "/bin/\u202egnp.exe", "/bin/nul\x00byte", "/bin/ünïcödé 🏠", "%s%n?1:a@b", ""}
}

func hostileBatch() *sdk.Batch {
	var records []*wire.Record
	for i, text := range hostile() {
		p := process("/bin/sh", "sh\x00-c\x00"+text, 100+i)
		p.Executable.Path.Value, p.Name.Value = []byte(text), []byte(text)[:min(len(text), 16)]
		p.Cgroup = &wire.Cgroup{Path: &wire.Text{Value: []byte("/user.slice/" + text)}}
		p.Unit = &wire.Unit{Id: "abc", Name: strings.ToValidUTF8(text, "?"), Runtime: "docker"}
		r := flow(int64(i), p, uint64(i), 1<<40, "2001:db8::1", text)
		r.GetFlow().Grandparent = p
		records = append(records, r)
	}
	return batch(1, 1, records...)
}

// odd are flows with what few flows have.
func oddBatch() *sdk.Batch {
	cut := process("/bin/long", "long", 7)
	cut.CommandLine.Truncated, cut.CommandLine.Length = true, 99999
	inferred := flow(1, cut, 1, 2, "10.0.0.9", "a.example.org")
	inferred.GetFlow().Candidates = []*wire.Endpoint{{Ip: []byte{10, 0, 0, 1}, Port: 53}, {Ip: make([]byte, 16), Port: 53}}
	inferred.GetFlow().Domains = []*wire.Domain{{Name: &wire.Text{Value: []byte("a.example.org")}}, {Name: &wire.Text{Value: []byte("b")}}}
	bare := &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{Layer: wire.Layer_LAYER_SOCKET}}}
	root := flow(2, process("/bin/root", "root", 8), 1<<63, 1, "fe80::1", "")
	root.GetFlow().Remote.ScopeId, root.GetFlow().Process.Loginuid = 3, 4294967295
	root.GetFlow().Process.Executable.Inode = 1<<64 - 1
	root.GetFlow().Direction, root.GetFlow().Result = 99, wire.Result_RESULT_TIMED_OUT
	vsock := flow(3, &wire.Process{}, 1, 1, "10.0.0.1", "")
	vsock.GetFlow().Remote = &wire.Endpoint{Cid: 5, Port: 22}
	return batch(2, 1, inferred, bare, root, vsock)
}

func TestTheViewShowsEveryColumnAsTheSDKFlattensIt(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for _, b := range []*sdk.Batch{hostileBatch(), oddBatch(), newGenerator(3).Batch(50)} {
		apply(t, s, b)
		for r, row := range sdk.Rows(b.Batch) {
			want := make(map[string]any)
			for i, c := range sdk.Columns() {
				want[c.Name] = row[i].Any()
			}
			got := viewRow(t, s, want["epoch"], r.GetSequence())
			delete(got, "id")
			delete(got, "rowid")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("record %d (-SDK +view):\n%s", r.GetSequence(), diff)
			}
		}
	}
}

func viewRow(t *testing.T, s *Store, epoch any, sequence uint64) map[string]any {
	t.Helper()
	rows, err := s.readers.Load().Query("SELECT * FROM connections WHERE epoch = ? AND seq = ?", epoch, int64(sequence))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, dest := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		dest[i] = &values[i]
	}
	if !rows.Next() {
		t.Fatalf("no row %v/%d", epoch, sequence)
	}
	if err := rows.Scan(dest...); err != nil {
		t.Fatal(err)
	}
	row := make(map[string]any)
	for i, name := range names {
		row[name] = values[i]
	}
	return row
}

func TestColumnsStandInTheOrderOfTheSDK(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	rows, err := s.readers.Load().Query("SELECT * FROM connections")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range sdk.Columns() {
		want = append(want, c.Name)
	}
	if diff := cmp.Diff(append(want, "rowid", "id"), got); diff != "" {
		t.Error(diff)
	}
}

func TestABatchThatIsSentAgainIsAcknowledgedAndNotStoredTwice(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	p := process("/bin/a", "a", 1)
	first, second := batch(1, 1, flow(0, p, 1, 1, "1.1.1.1", "")), batch(1, 2, flow(1, p, 10, 1, "1.1.1.1", ""))
	apply(t, s, first, second, first, second, second)
	wantValue(t, s, "11", "SELECT sum(send) FROM connections")
	marks, err := s.Watermarks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]sdk.Watermark{{Epoch: sdk.Epoch{1}, Sequence: 2}}, marks); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsThatAreMissingAreAskedFor(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	f := func() *wire.Record { return flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "") }
	apply(t, s, batch(1, 1, f(), f()))
	gap := &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Epoch: append([]byte{1}, make([]byte, 15)...), First: 3, Last: 9}}}
	for _, c := range []struct {
		name  string
		batch *sdk.Batch
		want  error
	}{
		{"hole", batch(1, 5, f()), &sdk.Rewind{Have: sdk.Watermark{Epoch: sdk.Epoch{1}, Sequence: 2}}},
		{"overlap", batch(1, 2, f(), f()), &sdk.Rewind{Have: sdk.Watermark{Epoch: sdk.Epoch{1}, Sequence: 2}}},
		{"hole in a new epoch", batch(2, 5, f()), &sdk.Rewind{Have: sdk.Watermark{Epoch: sdk.Epoch{2}}}},
		{"hole that a gap explains", batch(1, 10, f(), gap), nil},
		{"next", batch(1, 12, f()), nil},
	} {
		err := s.Apply(t.Context(), c.batch)
		if fmt.Sprint(err) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	wantValue(t, s, "4", "SELECT count(*) FROM connections")
}

func TestAHoleThatTheHostCannotFillIsTakenTheSecondTimeAndNoted(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	b := batch(1, 5, flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", ""))
	var rewind *sdk.Rewind
	if err := s.Apply(t.Context(), b); !errors.As(err, &rewind) {
		t.Fatalf("first time: got %v, want a rewind", err)
	}
	apply(t, s, b)
	wantValue(t, s, "queue-dropped 4", "SELECT reason || ' ' || events FROM gaps")
}

func TestALateHashReachesTheExecutableAndNoLaterOne(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	pending := func(pid int) *wire.Record {
		p := process("/bin/new", "new", 5)
		p.Id.Tgid = uint32(pid)
		p.Executable.Sha256, p.Executable.HashStatus = nil, wire.HashStatus_HASH_PENDING
		return flow(0, p, 1, 1, "1.1.1.1", "")
	}
	x := pending(0).GetFlow().GetProcess().GetExecutable()
	sum := make([]byte, 32)
	sum[0] = 0xab
	apply(t, s, batch(1, 1, pending(1)))
	apply(t, s, batch(1, 2, &wire.Record{Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{Superblock: x.Superblock,
		Device: x.Device, Inode: x.Inode, Ctime: x.Ctime, Size: x.Size, Sha256: sum, HashStatus: wire.HashStatus_HASH_OK}}}, pending(2)))
	wantValue(t, s, "ab", "SELECT substr(sha256, 1, 2) FROM connections WHERE pid = 1 AND hash_status = 'ok'")
	wantValue(t, s, "pending", "SELECT hash_status FROM connections WHERE pid = 2 AND sha256 = ''")
}

func TestOnlySocketFlowsAndExecutionsAreConnections(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	p := process("/bin/a", "a", 1)
	packet := flow(0, p, 5, 5, "1.1.1.1", "")
	packet.GetFlow().Layer = wire.Layer_LAYER_PACKET
	apply(t, s, batch(1, 1, packet, flow(0, p, 1, 1, "1.1.1.1", ""),
		&wire.Record{Kind: &wire.Record_Exec{Exec: &wire.Exec{Window: &wire.Window{End: start}, Process: process("/bin/ls", "ls", 2)}}},
		&wire.Record{Kind: &wire.Record_Listen{Listen: &wire.Listen{Time: 5}}}, &wire.Record{}))
	wantValue(t, s, "2", "SELECT count(*) FROM connections")
	wantValue(t, s, "/bin/ls", "SELECT exe FROM connections WHERE lport = -1 AND rport = -1 AND laddr = '' AND send = 0")
	wantValue(t, s, "3", "SELECT count(*) FROM flows")
	wantValue(t, s, "listen", "SELECT kind FROM events")
}

func TestNamesThatAreNeverTheDomainAreStoredToo(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	named := func(n int64, name string, source wire.NameSource) *wire.Record {
		r := flow(n, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", "")
		d := &wire.Domain{Name: &wire.Text{Value: []byte(name)}, Source: source, Age: 7, Scope: "host"}
		r.GetFlow().Domain, r.GetFlow().Domains = nil, []*wire.Domain{d}
		if source == wire.NameSource_NAME_SOURCE_SNI {
			r.GetFlow().Domain = d
		}
		return r
	}
	apply(t, s, batch(1, 1, named(0, "www.example.org", wire.NameSource_NAME_SOURCE_SNI), named(1, "ptr.example.org", wire.NameSource_NAME_SOURCE_PTR)))
	wantValue(t, s, "1", "SELECT count(*) FROM connections WHERE domain = ''")
	wantValue(t, s, "org.example.ptr ptr 7 host", `SELECT group_concat(x.value || ' ' || d.source || ' ' || d.age || ' ' || d.scope)
		FROM flow_domains d JOIN texts x ON x.id = d.domain`)
}

func TestDeletingFromConnectionsDeletesTheRowAndNothingElseIsPossible(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	apply(t, s, oddBatch())
	db := reader(t, s, "mode=rw&_busy_timeout=2000") // foreign keys are off, as in the sqlite3 shell
	for _, text := range []string{"UPDATE connections SET send = 1", "INSERT INTO connections (send) VALUES (1)"} {
		if _, err := db.Exec(text); err == nil || !strings.Contains(err.Error(), "docs/schema.md") {
			t.Errorf("%s: got %v, want an error that names docs/schema.md", text, err)
		}
	}
	wantValue(t, s, "1", "SELECT count(*) FROM connections WHERE exe = '/bin/long' AND rowid = id")
	if _, err := db.Exec("DELETE FROM connections WHERE rowid IN (SELECT rowid FROM connections WHERE exe = '/bin/long')"); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "3 0", "SELECT (SELECT count(*) FROM flows) || ' ' || (SELECT count(*) FROM flow_domains)")
}

// killedWriter is what the child of the next test does: it stores batches until it is killed.
func killedWriter(directory string) error {
	s := New()
	settings := sdk.Settings{Directory: directory, HostID: [16]byte{1}, Config: []byte(`{"retention_days": 0}`)}
	if err := s.Configure(context.Background(), settings); err != nil {
		return err
	}
	marks, err := s.Watermarks(context.Background())
	if err != nil {
		return err
	}
	next := uint64(1)
	if len(marks) > 0 {
		next = marks[0].Sequence + 1
	}
	for ; ; next += 20 {
		var records []*wire.Record
		for i := range uint64(20) {
			n := next + i
			records = append(records, flow(int64(n), process(fmt.Sprintf("/bin/%d", n), "x", int(n)), n, 1, "1.1.1.1", fmt.Sprint(n)))
		}
		if err := s.Apply(context.Background(), batch(1, next, records...)); err != nil {
			return err
		}
		fmt.Println(next + 19) // acknowledged
	}
}

func TestMain(m *testing.M) {
	if directory := os.Getenv("STORE_TEST_KILLED_WRITER"); directory != "" {
		fmt.Fprintln(os.Stderr, killedWriter(directory))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runAndKill starts a writer, kills it some time after it acknowledged so many batches, and gives the last sequence that
// it acknowledged.
func runAndKill(t *testing.T, directory string, batches int) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "STORE_TEST_KILLED_WRITER="+directory)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := ""
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		acknowledged = lines.Text()
		if i == batches {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // killed
	if acknowledged == "" {
		t.Fatal("the writer acknowledged nothing")
	}
	return acknowledged
}

func TestRowsAndWatermarkAgreeAfterTheWriterWasKilled(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	for round := range 6 {
		acknowledged := runAndKill(t, directory, 3+2*round)
		s := open(t, directory)
		wantValue(t, s, "1", "SELECT coalesce(max(sequence), 0) >= CAST(? AS INTEGER) FROM epochs", acknowledged)
		wantValue(t, s, "1", `SELECT count(*) = coalesce((SELECT max(sequence) FROM epochs), 0) AND count(*) = count(DISTINCT seq)
AND coalesce(sum(send), 0) = count(*) * (count(*) + 1) / 2 AND coalesce(sum(exe <> '/bin/' || seq), 0) = 0 FROM connections`)
		wantValue(t, s, "ok", "PRAGMA integrity_check")
		if round == 5 {
			wantValue(t, s, "1", "SELECT count(*) > 100 FROM connections")
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskIsARetryAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	apply(t, s, g.Batch(10))
	if _, _, err := s.writer.conn.number("PRAGMA max_page_count = 1"); err != nil { // the size it has now
		t.Fatal(err)
	}
	b := g.Batch(3000)
	wantRetry(t, s.Apply(t.Context(), b), "no space left")
	if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("health: got %v, want the reason", err)
	}
	wantValue(t, s, "10", "SELECT count(*) FROM connections")
	if _, _, err := s.writer.conn.number("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	apply(t, s, b)
	wantValue(t, s, "3010", "SELECT count(*) FROM connections")
	wantValue(t, s, "0", "SELECT count(*) FROM pragma_foreign_key_check")
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("health afterwards: %v", err)
	}
}

func TestALockOfAnotherProgramIsARetry(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	other := reader(t, s, "mode=rw&_txlock=immediate")
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	b := g.Batch(10)
	wantRetry(t, s.Apply(t.Context(), b), "locked by another program")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	apply(t, s, b)
}

func wantRetry(t *testing.T, err error, text string) {
	t.Helper()
	var retry *sdk.Retry
	if !errors.As(err, &retry) || !retry.Downstream || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want a downstream retry that says %q", err, text)
	}
}

func TestAFileThatIsDamagedWhileOpenIsSetAsideAndTheHostAskedAgain(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	s := open(t, directory)
	g := newGenerator(1)
	apply(t, s, g.Batch(2000))
	if err := s.writer.conn.script("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("damage! ", int(info.Size()/8)-1024)), 8192); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.writer.in.forget()
	if err := s.writer.conn.script("PRAGMA shrink_memory"); err != nil {
		t.Fatal(err)
	}
	var rewind *sdk.Rewind
	for range 3 { // the page cache may hold what the first batches need
		if err = s.Apply(t.Context(), g.Batch(2000)); err != nil {
			break
		}
	}
	if !errors.As(err, &rewind) || rewind.Have.Sequence != 0 {
		t.Fatalf("got %v, want a rewind to the beginning", err)
	}
	if aside, _ := filepath.Glob(filepath.Join(directory, "snitch.db.corrupt-*")); len(aside) == 0 {
		t.Error("the damaged file is not set aside")
	}
	apply(t, s, newGenerator(1).Batch(100))
}
