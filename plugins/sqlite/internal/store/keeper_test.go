package store

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

var (
	_ sdk.Exporter  = (*Store)(nil)
	_ sdk.Importer  = (*Store)(nil)
	_ sdk.Checker   = (*Store)(nil)
	_ sdk.Compacter = (*Store)(nil)
	_ sdk.Witness   = (*Store)(nil)
	_ sdk.Meter     = (*Store)(nil)
)

// chained is a store with some batches of one run that follow each other, with records of every kind.
func chained(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	var chain sdk.Hash
	next := uint64(1)
	for i, b := range []*sdk.Batch{hostileBatch(), oddBatch(), newGenerator(3).Batch(50), batch(1, 1,
		&wire.Record{Kind: &wire.Record_Exec{Exec: &wire.Exec{Window: &wire.Window{End: start}, Process: process("/bin/ls", "ls", 2), Parent: process("/bin/sh", "sh", 3)}}},
		&wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: 5, Text: &wire.Text{Value: []byte("\xff")}}}},
		&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: 5, End: 6, Sent: 1 << 63}}},
		&wire.Record{Kind: &wire.Record_Listen{Listen: &wire.Listen{Time: 5, Process: process("/bin/a", "a", 1)}}},
		&wire.Record{Kind: &wire.Record_Verdict{Verdict: &wire.Verdict{Time: 6, Text: "clean"}}},
		&wire.Record{})} {
		again := batch(1, next, b.GetRecords()...)
		chain = sdk.Seal(again.Batch, chain)
		apply(t, s, again)
		next = again.Last + 1
		_ = i
	}
	return s
}

func evidence(t *testing.T, s *Store, hostID []byte) []*wire.BatchEvidence {
	t.Helper()
	var list []*wire.BatchEvidence
	err := s.Evidence(t.Context(), &wire.EvidenceRequest{HostId: hostID}, func(p *wire.EvidencePage) error {
		list = append(list, p.GetBatches()...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func states(list []*wire.BatchEvidence) string {
	var words []string
	for _, e := range list {
		words = append(words, strings.ToLower(e.GetState().String()))
	}
	return strings.Join(words, " ")
}

func check(t *testing.T, s *Store) []string {
	t.Helper()
	var findings []string
	err := s.Check(t.Context(), func(p *wire.CheckPage) error {
		findings = append(findings, p.GetFindings()...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

func TestTheRowsThemselvesGiveTheRootOfEveryBatch(t *testing.T) {
	t.Parallel()
	s := chained(t)
	if got := states(evidence(t, s, nil)); got != "sound sound sound sound" {
		t.Errorf("got %s", got)
	}
	if got := evidence(t, s, []byte("another host")); len(got) != 0 {
		t.Errorf("of another host: %v", got)
	}
	if got := check(t, s); len(got) != 0 {
		t.Errorf("check: %q", got)
	}
}

func TestWhatWasMadeForThisStoreAloneIsNoLinkOfTheChain(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	stream := sdktest.NewStream(1)
	whole := func(b *wire.Batch) *sdk.Batch { return &sdk.Batch{Batch: b, Epoch: stream.Epoch} }
	apply(t, s, whole(stream.Next(sdktest.Records(1, 9))), whole(stream.Gap(sdktest.Records(2, 5))))
	own := stream.Next(sdktest.Records(3, 9))
	apply(t, s, whole(sdktest.Part(own, own.First, own.First+3)), whole(sdktest.Part(own, own.First+4, own.Last)),
		whole(stream.Next(sdktest.Records(4, 9))))
	if got := states(evidence(t, s, nil)); got != "sound unknown unknown unknown sound" {
		t.Errorf("got %s", got)
	}
	if got := check(t, s); len(got) != 0 {
		t.Errorf("check: %q", got)
	}
}

func TestALateHashDoesNotAlterEvidence(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	p := process("/bin/new", "new", 5)
	p.Executable.Sha256, p.Executable.HashStatus = nil, wire.HashStatus_HASH_PENDING
	x := p.GetExecutable()
	apply(t, s, batch(1, 1, flow(0, p, 1, 1, "1.1.1.1", "")))
	apply(t, s, batch(1, 2, &wire.Record{Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{Superblock: x.Superblock,
		Device: x.Device, Inode: x.Inode, Ctime: x.Ctime, Size: x.Size, Sha256: make([]byte, 32), HashStatus: wire.HashStatus_HASH_OK}}}))
	wantValue(t, s, "ok", "SELECT hash_status FROM connections")
	if got := states(evidence(t, s, nil)); got != "sound sound" {
		t.Errorf("got %s", got)
	}
}

func TestWhatWasAlteredMissingOrExpiredIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, change, want, finding string }{
		{"a number", "UPDATE flows SET sent = sent + 1 WHERE id = 5", "altered sound sound sound", "not those that were delivered"},
		{"a shared text", "UPDATE executables SET exe = '/bin/innocent' WHERE exe = '/bin/long'", "sound altered sound sound", "not those"},
		{"a row", "DELETE FROM connections WHERE id = 5", "altered sound sound sound", "missing, the first is 5"},
		{"a row too much", "INSERT INTO flows SELECT 1 + (SELECT max(id) FROM flows), batch, 7777, " + columnsBehindKey + " FROM flows WHERE id = 5",
			"sound sound sound sound altered", "1 or more rows are of no batch, or there twice, the first is record 7777"},
		{"a row twice", "UPDATE flows SET sequence = 5 WHERE id = 6", "altered sound sound sound", "the first is record 5"},
		{"a notice", "DELETE FROM notices", "sound sound sound altered", "missing"},
		{"the text of a notice", "UPDATE notices SET text = 'harmless'", "sound sound sound altered", "not those"},
		{"the time of a gap", "UPDATE gaps SET started = 4", "sound sound sound altered", "not those"},
		{"the kind of an event", "UPDATE events SET kind = 'config' WHERE kind = 'verdict'", "sound sound sound altered", "not those"},
		{"a root", "UPDATE batches SET root = zeroblob(32) WHERE id = 3", "sound sound altered sound", "does not follow"},
		{"a sum", "UPDATE program_sums SET received = received + 1 WHERE width = 86400", "sound sound sound sound", "program_sums of 86400 s differs"},
		{"a reference", "DELETE FROM texts WHERE id = (SELECT max(cmdline) FROM processes)", "", "refers to a row of texts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := chained(t)
			if _, err := reader(t, s, "mode=rw&_busy_timeout=2000").Exec(c.change); err != nil {
				t.Fatal(err)
			}
			if got := states(evidence(t, s, nil)); c.want != "" && got != c.want {
				t.Errorf("evidence: got %s, want %s", got, c.want)
			}
			if got := check(t, s); !strings.Contains(strings.Join(got, "\n"), c.finding) {
				t.Errorf("check: got %q, want %q", got, c.finding)
			}
		})
	}
}

// columnsBehindKey are those of flows that follow id, batch and sequence.
const columnsBehindKey = "kind, window, actor, remote, trait, lport, socket, sent, received, sends, receives, connects, accepts, failures, listens"

func TestTheEvidenceOfOneBatchHasItsLeaves(t *testing.T) {
	t.Parallel()
	s := chained(t)
	all := evidence(t, s, nil)
	if len(all[1].GetLeaves()) != 0 {
		t.Error("leaves that nobody asked for")
	}
	ask := &wire.EvidenceRequest{HostId: all[1].GetHostId(), Epoch: all[1].GetEpoch(), First: all[1].GetFirst()}
	var got []*wire.BatchEvidence
	if err := s.Evidence(t.Context(), ask, func(p *wire.EvidencePage) error { got = append(got, p.GetBatches()...); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].GetFirst() != ask.First {
		t.Fatalf("got %v, want one batch", got)
	}
	var leaves []sdk.Hash
	for part := range slices.Chunk(got[0].GetLeaves(), len(sdk.Hash{})) {
		leaves = append(leaves, sdk.Hash(part))
	}
	if root := sdk.Root(leaves); !bytes.Equal(root[:], got[0].GetRoot()) {
		t.Errorf("%d leaves give another root", len(leaves))
	}
}

func TestBatchesThatRetentionEmptiedAreExpiredAndTheirAnchorsStay(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var chain sdk.Hash
	for day := range int64(4) {
		b := batch(1, uint64(day)+1, flow(day*86400, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", ""))
		chain = sdk.Seal(b.Batch, chain)
		apply(t, s, b)
	}
	prune(t, s, time.Unix(0, start+4*day), 2*24*time.Hour)
	if got := states(evidence(t, s, nil)); got != "expired expired sound sound" {
		t.Errorf("got %s", got)
	}
	if got := check(t, s); len(got) != 0 {
		t.Errorf("check: %q", got)
	}
}

// TestWhatIsYoungIsNotTakenForExpired: a batch that has nothing but records that are kept whole is as old as these.
func TestWhatIsYoungIsNotTakenForExpired(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"gaps", "notices", "events"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir())
			b := batch(1, 1, map[string]*wire.Record{
				"gaps":    {Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: start, End: start + 1}}},
				"notices": {Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: start}}},
				"events":  {Kind: &wire.Record_Verdict{Verdict: &wire.Verdict{Time: start}}},
			}[table])
			sdk.Seal(b.Batch, sdk.Hash{})
			apply(t, s, b)
			prune(t, s, time.Unix(0, start), 24*time.Hour)
			if got := states(evidence(t, s, nil)); got != "sound" {
				t.Errorf("before: %s", got)
			}
			if _, err := reader(t, s, "mode=rw&_busy_timeout=2000").Exec("DELETE FROM " + table); err != nil {
				t.Fatal(err)
			}
			if got := states(evidence(t, s, nil)); got != "altered" {
				t.Errorf("deleted: %s", got)
			}
			prune(t, s, time.Unix(0, start).Add(48*time.Hour), 24*time.Hour)
			if got := states(evidence(t, s, nil)); got != "expired" {
				t.Errorf("two days later: %s", got)
			}
		})
	}
}

func export(t *testing.T, s *Store, format wire.ExportFormat, where *wire.Filter) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Export(t.Context(), &wire.ExportRequest{Format: format, Where: where}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// viewRows are all rows of the view as text.
func viewRows(t *testing.T, s *Store) [][]string {
	t.Helper()
	rows, err := s.readers.Load().Query("SELECT * FROM connections ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	width := len(sdk.Columns())
	values, dest := make([]any, width+2), make([]any, width+2) // rowid and id too
	for i := range values {
		dest[i] = &values[i]
	}
	var all [][]string
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, v := range values[:width] {
			row = append(row, fmt.Sprint(v))
		}
		all = append(all, row)
	}
	return all
}

func TestExportsHoldTheRowsOfTheView(t *testing.T) {
	t.Parallel()
	s := chained(t)
	want := viewRows(t, s)
	got, err := csv.NewReader(bytes.NewReader(export(t, s, wire.ExportFormat_EXPORT_CSV, nil))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got[1:]); diff != "" {
		t.Errorf("CSV: %s", diff)
	}
	lines := strings.Split(strings.TrimSpace(string(export(t, s, wire.ExportFormat_EXPORT_JSON, nil))), "\n")
	if len(lines) != len(want) {
		t.Fatalf("JSON: %d lines, want %d", len(lines), len(want))
	}
	for i, line := range lines {
		var object map[string]any
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		if err := decoder.Decode(&object); err != nil {
			t.Fatal(err)
		}
		for j, c := range sdk.Columns() {
			if got := fmt.Sprint(object[c.Name]); got != want[i][j] {
				t.Errorf("JSON: row %d, %s: got %q, want %q", i, c.Name, got, want[i][j])
			}
		}
	}
	only, err := csv.NewReader(bytes.NewReader(export(t, s, wire.ExportFormat_EXPORT_CSV, equal("exe", "/bin/ls")))).ReadAll()
	if err != nil || len(only) != 2 || only[1][3] != "/bin/ls" {
		t.Errorf("filtered: %v, %v", only, err)
	}
}

func TestAParquetExportHoldsTheRowsOfTheView(t *testing.T) {
	t.Parallel()
	s := chained(t)
	want := viewRows(t, s)
	raw := export(t, s, wire.ExportFormat_EXPORT_PARQUET, nil)
	file, err := parquet.OpenFile(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int)
	for i, path := range file.Schema().Columns() {
		at[path[0]] = i
	}
	got := parquet.NewGenericReader[any](file)
	defer got.Close()
	rows := make([]parquet.Row, len(want)+1)
	n, _ := got.ReadRows(rows)
	if n != len(want) {
		t.Fatalf("%d rows, want %d", n, len(want))
	}
	for i := range want {
		for j, c := range sdk.Columns() {
			if text := rows[i][at[c.Name]].String(); text != want[i][j] {
				t.Errorf("row %d, %s: got %q, want %q", i, c.Name, text, want[i][j])
			}
		}
	}
}

func TestABackupIsADatabaseWithAllRowsAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := chained(t)
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, fileName), export(t, s, wire.ExportFormat_EXPORT_BACKUP, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	restored := open(t, directory)
	if diff := cmp.Diff(viewRows(t, s), viewRows(t, restored)); diff != "" {
		t.Error(diff)
	}
	wantSound(t, restored)
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), "*.tmp*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestExportsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	s := sample(t)
	for _, r := range []*wire.ExportRequest{{}, {Format: 99}, {Format: wire.ExportFormat_EXPORT_CSV, Where: equal("nonsense", "1")}} {
		if err := s.Export(t.Context(), r, &bytes.Buffer{}); !errors.Is(err, sdk.ErrQuery) {
			t.Errorf("%v: got %v", r, err)
		}
	}
	gone := errors.New("the reader went away")
	if err := s.Export(t.Context(), &wire.ExportRequest{Format: wire.ExportFormat_EXPORT_JSON}, failing{gone}); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestCompactGivesBackWhatIsFree(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	for range 4 {
		apply(t, s, g.Batch(3000))
	}
	if _, err := reader(t, s, "mode=rw&_busy_timeout=2000").Exec("DELETE FROM connections"); err != nil {
		t.Fatal(err)
	}
	var last *wire.CompactProgress
	err := s.Compact(t.Context(), func(p *wire.CompactProgress) error { last = p; return nil })
	if err != nil || !last.GetDone() || last.GetAfter() > last.GetBefore()*2/3 {
		t.Errorf("got %v, %v", last, err)
	}
	wantValue(t, s, "0", "SELECT freelist_count FROM pragma_freelist_count")
	wantSound(t, s)
}

func TestAReadOnlyStoreChangesNothingForAnybody(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	writer := open(t, directory)
	apply(t, writer, newGenerator(1).Batch(10))
	s, err := configure(t, directory, func(s *sdk.Settings) { s.ReadOnly = true })
	if err != nil {
		t.Fatal(err)
	}
	none := func(*wire.ImportProgress) error { return nil }
	if err := s.Import(t.Context(), "x", 0, strings.NewReader(""), none); !errors.Is(err, errReadOnly) {
		t.Errorf("import: %v", err)
	}
	if err := s.Compact(t.Context(), func(*wire.CompactProgress) error { return nil }); !errors.Is(err, errReadOnly) {
		t.Errorf("compact: %v", err)
	}
	if got := check(t, s); len(got) != 0 {
		t.Errorf("check: %q", got)
	}
	if got := export(t, s, wire.ExportFormat_EXPORT_CSV, nil); bytes.Count(got, []byte("\n")) != 11 {
		t.Errorf("export: %s", got)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(copied, export(t, s, wire.ExportFormat_EXPORT_BACKUP, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := readHeader(copied); err != nil || h.userVersion != version {
		t.Errorf("backup: %v, %v", h, err)
	}
}

func TestALongCheckEndsWhenNobodyWaits(t *testing.T) {
	t.Parallel()
	s := sample(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Check(ctx, func(*wire.CheckPage) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
