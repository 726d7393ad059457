package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// archive is the Keeper of a store of a test.
type archive struct {
	wire.UnimplementedKeeperServer
	findings []string
	evidence map[string][]*wire.BatchEvidence // by store
	rows     map[string]string                // that are exported, by store; else one heading
	plugins  []*wire.PluginStatus
	imported chan []byte
	asked    chan *wire.ExportRequest
}

func (a *archive) Export(r *wire.ExportRequest, stream grpc.ServerStreamingServer[wire.Piece]) error {
	a.asked <- r
	if r.GetStore() == "breaks" {
		_ = stream.Send(&wire.Piece{Data: []byte("half")})
		return status.Error(codes.DataLoss, "export: the disk is broken")
	}
	if rows, ok := a.rows[r.GetStore()]; ok {
		return stream.Send(&wire.Piece{Data: []byte(rows)})
	}
	return stream.Send(&wire.Piece{Data: []byte("contime,exe\n")})
}

func (a *archive) Check(_ *wire.CheckRequest, stream grpc.ServerStreamingServer[wire.CheckPage]) error {
	return stream.Send(&wire.CheckPage{Findings: a.findings, Facts: []string{"7 rows"}})
}

func (a *archive) Compact(_ *wire.CompactRequest, stream grpc.ServerStreamingServer[wire.CompactProgress]) error {
	return stream.Send(&wire.CompactProgress{Before: 9000, After: 4000, Done: true})
}

func (a *archive) Evidence(r *wire.EvidenceRequest, stream grpc.ServerStreamingServer[wire.EvidencePage]) error {
	page := &wire.EvidencePage{}
	for _, b := range a.evidence[r.GetStore()] {
		if len(r.GetEpoch()) == 0 || bytes.Equal(r.GetEpoch(), b.GetEpoch()) && r.GetFirst() == b.GetFirst() {
			page.Batches = append(page.Batches, b)
		}
	}
	return stream.Send(page)
}

func (a *archive) Import(stream grpc.BidiStreamingServer[wire.ImportPiece, wire.ImportProgress]) error {
	var whole []byte
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		whole = append(whole, piece.GetData()...)
	}
	a.imported <- whole
	return errors.Join(stream.Send(&wire.ImportProgress{Rows: 5, Text: "taking over"}),
		stream.Send(&wire.ImportProgress{Rows: 5, Skipped: 2, Done: len(whole) > 0}))
}

// kept is a daemon whose store is an archive.
type kept struct {
	backend
	client  *sdk.Client
	plugins []*wire.PluginStatus
}

func (k kept) Plugins() []*wire.PluginStatus { return k.plugins }

func (k kept) Use(ctx context.Context, _, _ string, call func(context.Context, *sdk.Client) error) error {
	return call(ctx, k.client)
}

// keepArchive serves an archive through a daemon, and gives its run directory.
func keepArchive(t *testing.T, a *archive) string {
	t.Helper()
	a.imported, a.asked = make(chan []byte, 1), make(chan *wire.ExportRequest, 8)
	path := filepath.Join(t.TempDir(), "p")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server, done := grpc.NewServer(), make(chan struct{})
	wire.RegisterKeeperServer(server, a)
	go func() { defer close(done); _ = server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); server.Stop(); <-done })
	return listen(t, kept{client: &sdk.Client{Keeper: wire.NewKeeperClient(conn)}, plugins: a.plugins})
}

func runLine(t *testing.T, line string) (code int, out, errs string) {
	t.Helper()
	c, o, e := testCall(t)
	code = c.run(t.Context(), strings.Fields(line))
	return code, o.String(), e.String()
}

func TestTheHistoryIsLookedAfterByVerbs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a := &archive{}
	run := " --run-dir " + keepArchive(t, a)
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line, want string
		code       int
	}{
		{"db check", "7 rows\nthe history is sound\n", exitOK},
		{"db vacuum", "9.0 kB before, 4.0 kB now\n", exitOK},
		{"db export --format csv -", "contime,exe\n", exitOK},
		{"db", "which of check, backup, vacuum, export and import?", exitUsage},
		{"db backup", "takes one file", exitUsage},
		{"db check now", "db check takes no argument such as \"now\"", exitUsage},
		{"db export -", "which format?", exitUsage},
		{"db export --format csv --where x -", "no filter such as name=curl", exitUsage},
		{"db export --format csv --since 1h --until 2h -", "is not after --since", exitUsage},
		{"db backup " + dir, "is a directory", exitFailure},
		{"db import " + dir, "is no file", exitUsage},
		{"db backup " + pipe, "is no file, and would be replaced by one", exitFailure},
		{"db import " + pipe, "is no file", exitUsage},
		{"db import /nonexistent", "no such file", exitFailure},
	} {
		code, out, errs := runLine(t, c.line+run)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: %d, %q, %q", c.line, code, out, errs)
		}
	}
	a.findings = []string{"page 3\nis broken"}
	if code, out, _ := runLine(t, "db check"+run); code != exitFindings || !strings.HasPrefix(out, "damage: page 3; is broken\n7 rows\n") {
		t.Errorf("damage: %d, %q", code, out)
	}
}

func TestAFileThatIsExportedIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a := &archive{}
	run := " --run-dir " + keepArchive(t, a)
	dir := t.TempDir()
	path := filepath.Join(dir, "x.csv")
	if code, _, errs := runLine(t, "db export --since 2026-11-20 --where name=curl --store acme "+path+run); code != exitOK {
		t.Fatalf("%d, %q", code, errs)
	}
	r := <-a.asked
	if r.GetStore() != "acme" || r.GetFormat() != wire.ExportFormat_EXPORT_CSV || r.GetStart() == 0 || r.GetWhere().GetCompare().GetColumn() != "name" {
		t.Errorf("asked %v", r)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v", info, err)
	}
	code, _, errs := runLine(t, "db export --store breaks --format json "+path+run)
	if code != exitFailure || !strings.Contains(errs, "db export: the disk is broken") {
		t.Errorf("%d, %q", code, errs)
	}
	content, err := os.ReadFile(path)
	entries, _ := os.ReadDir(dir)
	if err != nil || string(content) != "contime,exe\n" || len(entries) != 1 {
		t.Errorf("after a failure: %q, %v, %d files", content, err, len(entries))
	}
	if code, _, _ := runLine(t, "db backup "+path+run); code != exitOK {
		t.Errorf("backup over a file: %d", code)
	}
}

func TestAFileIsImportedAsItIs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a := &archive{}
	run := " --run-dir " + keepArchive(t, a)
	path := filepath.Join(t.TempDir(), "old.db")
	content := bytes.Repeat([]byte("x\x00"), 300<<10)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runLine(t, "db import "+path+run)
	if code != exitOK || out != "5 rows, 2 of them were there already\n" || !strings.Contains(errs, "taking over") || !bytes.Equal(<-a.imported, content) {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runLine(t, "db import "+path+run); code != exitFailure || !strings.Contains(errs, "ended before it was done") {
		t.Errorf("an import that is not done: %d, %q", code, errs)
	}
	if err := os.WriteFile(path+"-wal", content, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		if code, _, errs := runLine(t, "db import "+name+run); code != exitFailure || !strings.Contains(errs, "old.db-wal holds changes") {
			t.Errorf("a database with changes beside it: %d, %q", code, errs)
		}
	}
}

// chain makes the evidence of n batches of ten records each.
func chain(n int) []*wire.BatchEvidence {
	var batches []*wire.BatchEvidence
	var previous sdk.Hash
	for i := range uint64(n) {
		root := sdk.Hash{byte(i + 1)}
		b := &wire.BatchEvidence{
			HostId: []byte("hosthosthosthost"), Epoch: []byte("epochepochepoche"), First: 10*i + 1, Last: 10*i + 10,
			Previous: bytes.Clone(previous[:]), Root: bytes.Clone(root[:]), State: wire.BatchEvidence_SOUND,
		}
		previous = sdk.Chain(&wire.Batch{HostId: b.HostId, Epoch: b.Epoch, First: b.First, Last: b.Last}, previous, root)
		batches = append(batches, b)
	}
	return batches
}

func TestVerifyNamesWhatIsMissingOrAltered(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, c := range []struct {
		name     string
		own      func([]*wire.BatchEvidence) []*wire.BatchEvidence
		other    func([]*wire.BatchEvidence) []*wire.BatchEvidence // nil: not compared
		want     []string                                          // in findings or facts
		findings bool
	}{
		{"sound", same, nil, []string{"5 batches of 1 runs", "nothing is missing and nothing was altered"}, false},
		{"the same", same, same, []string{"and remote has the same"}, false},
		{"expired and filtered", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[0].State, b[0].Missing, b[1].State = wire.BatchEvidence_EXPIRED, []uint64{1}, wire.BatchEvidence_FILTERED
			return b
		}, nil, []string{"1 batches are past their retention", "1 batches lack what the store leaves out"}, false},
		{"expired here, not there", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[0].State, b[0].Missing, b[1].State = wire.BatchEvidence_EXPIRED, []uint64{1}, wire.BatchEvidence_FILTERED
			return b
		}, same, []string{"1 batches are past their retention", "and remote has the same"}, false},
		{"gap in place of records", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[2] = &wire.BatchEvidence{HostId: b[2].HostId, Epoch: b[2].Epoch, First: 30, Last: 30, State: wire.BatchEvidence_SOUND}
			return b
		}, nil, []string{"nothing is missing"}, false},
		{"altered", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[3].State, b[3].Altered = wire.BatchEvidence_ALTERED, []uint64{33, 34}
			return b
		}, nil, []string{"found: host 686f7374", "records 31 to 40 were altered: 33, 34"}, true},
		{"row removed", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[3].Missing = []uint64{35}
			return b
		}, nil, []string{"of records 31 to 40 some are missing: 35"}, true},
		{"batch removed", func(b []*wire.BatchEvidence) []*wire.BatchEvidence { return append(b[:2:2], b[3:]...) },
			nil, []string{"records 21 to 30 are missing"}, true},
		{"beginning removed", func(b []*wire.BatchEvidence) []*wire.BatchEvidence { return b[2:] },
			nil, []string{"records 1 to 20 are missing"}, true},
		{"end of what was stored removed", func(b []*wire.BatchEvidence) []*wire.BatchEvidence { return b[:3] },
			nil, []string{"records 31 to 50 are missing, which were stored"}, true},
		{"all that was stored removed", func([]*wire.BatchEvidence) []*wire.BatchEvidence { return nil },
			nil, []string{"records 1 to 50 are missing, which were stored"}, true},
		{"all rows of a batch removed", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[3].State, b[3].Missing = wire.BatchEvidence_ALTERED, []uint64{31, 32, 33, 34, 35, 36, 37, 38, 39, 40}
			return b
		}, nil, []string{"1 findings", "records 31 to 40 some are missing: 31,"}, true},
		{"history rewritten", func(b []*wire.BatchEvidence) []*wire.BatchEvidence { b[2].Root[0] = 0x77; return b },
			nil, []string{"the batch of records 31 to 40 does not follow the one before it"}, true},
		{"row added", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[1].State, b[1].Extra = wire.BatchEvidence_ALTERED, []uint64{11}
			return append(b, &wire.BatchEvidence{HostId: b[0].HostId, Epoch: b[0].Epoch, State: wire.BatchEvidence_ALTERED, Extra: []uint64{777}})
		}, nil, []string{"rows were added: 11", "rows were added: 777", "5 batches of 1 runs"}, true},
		{"remote is altered", same, func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[3].State, b[3].Altered = wire.BatchEvidence_ALTERED, []uint64{33}
			return b
		}, []string{"found: remote: host 686f7374", "records 31 to 40 were altered: 33"}, true},
		{"twice", func(b []*wire.BatchEvidence) []*wire.BatchEvidence { return append(b[:3:3], b[2:]...) },
			nil, []string{"records 21 to 30 come a second time"}, true},
		{"end removed", func(b []*wire.BatchEvidence) []*wire.BatchEvidence { return b[:3] },
			same, []string{"records 31 to 40 are missing here, remote has them", "records 41 to 50 are missing here"}, true},
		{"remote lacks", same, func(b []*wire.BatchEvidence) []*wire.BatchEvidence { return b[2:] },
			[]string{"records 1 to 10: remote does not have them"}, true},
		{"rewritten with its chain", func([]*wire.BatchEvidence) []*wire.BatchEvidence {
			b := chain(5)
			b[4].Root[0] = 0x55
			return b
		}, same, []string{"records 41 to 50 are not those that remote has"}, true},
		{"gap here", func(b []*wire.BatchEvidence) []*wire.BatchEvidence {
			b[4].Root, b[4].Previous = nil, nil
			return b
		}, same, []string{"records 41 to 50 are a gap here, remote has them"}, true},
		{"remote is empty", same, func([]*wire.BatchEvidence) []*wire.BatchEvidence { return nil }, []string{"remote has nothing of it"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := chain(5)
			a := &archive{evidence: map[string][]*wire.BatchEvidence{"": c.own(chain(5))},
				plugins: []*wire.PluginStatus{{Name: defaultStore, Epoch: whole[4].GetEpoch(), Acknowledged: whole[4].GetLast()}}}
			line := "verify --run-dir " + keepArchive(t, a)
			if c.other != nil {
				a.evidence["remote"] = c.other(chain(5))
				line += " --against remote"
			}
			code, out, errs := runLine(t, line)
			if (code == exitFindings) != c.findings || strings.Contains(errs, "findings") != c.findings {
				t.Errorf("exit code %d, %q", code, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("says %q, want %q", out+errs, want)
				}
			}
		})
	}
}

func TestWhoInterruptsAVerbIsToldJustThat(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, _, errs := testCall(t)
	if code := c.run(ctx, []string{"verify", "--run-dir", keepArchive(t, &archive{})}); code != exitFailure || errs.String() != "picosnitch: interrupted\n" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

func same(b []*wire.BatchEvidence) []*wire.BatchEvidence { return b }

func TestWithoutDaemonAndHistoryTheCareOfAStoreSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	where := " --run-dir " + dir + " --config-dir " + dir
	for _, verb := range []string{"db check", "db vacuum", "db backup " + dir + "/x", "db import " + dir + "/f", "verify"} {
		code, _, errs := runLine(t, verb+where)
		if code != exitFailure || !strings.Contains(errs, "there is no history of store") {
			t.Errorf("%s: %d, %q", verb, code, errs)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestExportFormatsAreFoundByName(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]wire.ExportFormat{
		"a.csv": wire.ExportFormat_EXPORT_CSV, "a.json": wire.ExportFormat_EXPORT_JSON, "a.b.jsonl": wire.ExportFormat_EXPORT_JSON,
		"/x/a.parquet": wire.ExportFormat_EXPORT_PARQUET,
	} {
		if r, err := (exportFlags{}).request(path, time.Now()); err != nil || r.GetFormat() != want {
			t.Errorf("%s: %v, %v", path, r, err)
		}
	}
	if _, err := (exportFlags{format: "xml"}).request("a.csv", time.Now()); err == nil {
		t.Error("xml is taken")
	}
}
