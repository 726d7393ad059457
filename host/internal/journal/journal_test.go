package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

var testHost = [16]byte{7}

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	return openAt(t, dir, time.Now)
}

func openAt(t *testing.T, dir string, now func() time.Time) *Journal {
	t.Helper()
	j, err := Open(Options{Dir: dir, HostID: testHost, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, j.Close()) })
	return j
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// notices makes records whose text says which they are.
func notices(n int, text string) []*wire.Record {
	records := make([]*wire.Record, n)
	for i := range records {
		records[i] = &wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{
			Text: &wire.Text{Value: fmt.Appendf(nil, "%s %d", text, i)},
		}}}
	}
	return records
}

func appendTo(t *testing.T, j *Journal, records []*wire.Record, marks ...Mark) (first, last uint64) {
	t.Helper()
	first, last, err := j.Append(records, marks...)
	must(t, err)
	return first, last
}

func cursor(t *testing.T, j *Journal, sink string) *Cursor {
	t.Helper()
	c, err := j.Cursor(sink)
	must(t, err)
	return c
}

// next returns the batch that is due, or fails.
func next(t *testing.T, c *Cursor) Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := c.Next(ctx)
	must(t, err)
	return b
}

// idle tells that nothing is due.
func idle(t *testing.T, c *Cursor) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Next(ctx)
	return errors.Is(err, context.DeadlineExceeded)
}

// read is everything that a cursor gets, acknowledged as it comes, with the promises about batches checked.
func read(t *testing.T, c *Cursor) (texts []string) {
	t.Helper()
	texts, gaps := readAll(t, c)
	for _, g := range gaps {
		t.Errorf("a gap: %v", g)
	}
	return texts
}

// readAll is read where Gaps may come. They stand for their records, and begin the chain anew.
func readAll(t *testing.T, c *Cursor) (texts []string, gaps []*wire.Gap) {
	t.Helper()
	chains := map[sdk.Epoch]sdk.Hash{}
	for c.Lag() > 0 {
		b := next(t, c)
		var decoded wire.Batch
		must(t, proto.Unmarshal(b.Raw, &decoded))
		if len(b.Raw) > wire.MaxBatchBytes || len(decoded.Records) > wire.MaxBatchRecords {
			t.Errorf("batch of %d bytes, %d records", len(b.Raw), len(decoded.Records))
		}
		if sdk.Epoch(decoded.Epoch) != b.Epoch || decoded.First != b.First || decoded.Last != b.Last || [16]byte(decoded.HostId) != testHost {
			t.Errorf("batch says %x %d..%d, journal %v %d..%d", decoded.Epoch, decoded.First, decoded.Last, b.Epoch, b.First, b.Last)
		}
		if b.Gap {
			gaps = append(gaps, checkGap(t, c.name, b, &decoded))
			delete(chains, b.Epoch)
			must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
			continue
		}
		if len(decoded.Root) == 0 { // made for this sink
			delete(chains, b.Epoch)
		} else {
			previous, ok := chains[b.Epoch]
			if !ok {
				previous = sdk.Hash(decoded.Previous) // may begin in the middle
			}
			chain, err := sdk.Check(&decoded, previous)
			must(t, err)
			chains[b.Epoch] = chain
		}
		for i, r := range decoded.Records {
			if r.Sequence != b.First+uint64(i) {
				t.Errorf("record %d of %d..%d has sequence %d", i, b.First, b.Last, r.Sequence)
			}
			texts = append(texts, string(r.GetNotice().GetText().GetValue()))
		}
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	return texts, gaps
}

// checkGap checks a batch that stands for records which the sink does not get.
func checkGap(t *testing.T, sink string, b Batch, decoded *wire.Batch) *wire.Gap {
	t.Helper()
	g := decoded.Records[0].GetGap()
	if len(decoded.Records) != 1 || decoded.Records[0].Sequence != b.Last || b.First != b.Last || len(decoded.Previous)+len(decoded.Root) > 0 {
		t.Errorf("the batch of a gap: %v", decoded)
	}
	events := g.GetLast() - g.GetFirst() + 1
	if g.GetCause() == CauseUnknown.String() {
		events = 0
	}
	if sdk.Epoch(g.GetEpoch()) != b.Epoch || g.GetLast() != b.Last || g.GetEvents() != events || g.GetSink() != sink {
		t.Errorf("%v for %s in %v/%d", g, sink, b.Epoch, b.Last)
	}
	if g.GetStart() == 0 || g.GetEnd() < g.GetStart() {
		t.Errorf("gap from %d to %d", g.GetStart(), g.GetEnd())
	}
	return g
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestEverySinkGetsEverythingInOrder(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	a, b := cursor(t, j, "a"), cursor(t, j, "b")
	appendTo(t, j, notices(2, "one"))
	appendTo(t, j, notices(1, "two"))
	want := []string{"one 0", "one 1", "two 0"}
	equal(t, read(t, a), want)
	if lag := b.Lag(); lag != 3 {
		t.Errorf("b lags %d, want 3", lag)
	}
	equal(t, read(t, b), want)
}

func TestNextGivesTheSameBatchUntilAck(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	appendTo(t, j, notices(2, "one"))
	appendTo(t, j, notices(1, "two"))
	for range 2 {
		if b := next(t, c); b.First != 1 || b.Last != 2 {
			t.Fatalf("got %d..%d, want 1..2", b.First, b.Last)
		}
	}
	must(t, c.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 2}))
	must(t, c.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 1})) // going back is ignored
	if b := next(t, c); b.First != 3 {
		t.Errorf("got %d, want 3", b.First)
	}
	if err := c.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 4}); err == nil {
		t.Error("a record that does not exist was acknowledged")
	}
}

func TestNextWaitsForAnAppend(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	if !idle(t, c) {
		t.Fatal("a batch out of nothing")
	}
	got := make(chan Batch, 1)
	go func() {
		b, _ := c.Next(context.Background())
		got <- b
	}()
	appendTo(t, j, notices(1, "x"))
	select {
	case b := <-got:
		if b.Last != 1 {
			t.Errorf("got %+v", b)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("not woken")
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	got := make(chan error, 1)
	go func() {
		_, err := c.Next(context.Background())
		got <- err
	}()
	must(t, j.Close(), j.Close())
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("next: %v", err)
	}
	if _, _, err := j.Append(notices(1, "x")); !errors.Is(err, ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if _, err := j.Cursor("b"); !errors.Is(err, ErrClosed) {
		t.Errorf("cursor: %v", err)
	}
}

func TestUndeliveredBatchesKeepTheirEpochAndComeFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var epochs []sdk.Epoch
	var chains []string
	for run := range 3 {
		j := open(t, dir)
		c := cursor(t, j, "a")
		appendTo(t, j, notices(2, fmt.Sprint("run ", run)))
		epochs = append(epochs, j.Epoch())
		if run == 1 { // the second run delivers one batch
			b := next(t, c)
			if b.Epoch != epochs[0] {
				t.Errorf("run 1 begins with epoch %v, want %v", b.Epoch, epochs[0])
			}
			must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
		}
		if run == 2 {
			chains = read(t, c)
		}
		must(t, j.Close())
	}
	equal(t, chains, []string{"run 1 0", "run 1 1", "run 2 0", "run 2 1"})
	if epochs[0] == epochs[1] || epochs[1] == epochs[2] {
		t.Errorf("epochs repeat: %v", epochs)
	}
}

func TestANewSinkStartsWithTheCurrentEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	cursor(t, j, "old")
	appendTo(t, j, notices(1, "before"))
	must(t, j.Close())
	j = open(t, dir)
	appendTo(t, j, notices(1, "now"))
	equal(t, read(t, cursor(t, j, "new")), []string{"now 0"})
	equal(t, read(t, cursor(t, j, "old")), []string{"before 0", "now 0"})
	equal(t, j.Sinks(), []string{"new", "old"})
	must(t, j.Unregister("old"))
	equal(t, j.Sinks(), []string{"new"})
	for _, name := range []string{"", strings.Repeat("x", maxSinkName+1)} {
		if _, err := j.Cursor(name); err == nil {
			t.Errorf("a sink of %d bytes was registered", len(name))
		}
	}
}

func TestMarksAreCommittedWithRecordsAndAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	appendTo(t, j, notices(1, "x"), Mark{"generation", []byte("7")}, Mark{"lost", []byte("0")})
	appendTo(t, j, nil, Mark{"generation", []byte("8")})
	must(t, j.Close())
	j = open(t, dir)
	if v, ok := j.Mark("generation"); !ok || string(v) != "8" {
		t.Errorf("generation: %q, %v", v, ok)
	}
	appendTo(t, j, nil, Mark{Key: "lost"})
	if v, ok := j.Mark("lost"); ok {
		t.Errorf("lost: %q after its deletion", v)
	}
}

func TestPreviousTellsHowTheLastRunEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := time.Unix(1700000000, 5)
	j := openAt(t, dir, func() time.Time { return at })
	if p := j.previous; p.last > 0 {
		t.Errorf("a new journal remembers %+v", p)
	}
	appendTo(t, j, notices(3, "x"))
	first := j.Epoch()
	must(t, j.Close())
	j = open(t, dir)
	must(t, j.Close()) // a run without records leaves no trace
	j = open(t, dir)
	p := j.previous
	if p.epoch != first || p.last != 3 || !p.append.Equal(at) || !p.clean {
		t.Errorf("previous: %+v", p)
	}
}

func TestASecondOpenerIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir)
	if _, err := Open(Options{Dir: dir, HostID: testHost}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if left, _ := filepath.Glob(dir + "/*corrupt*"); len(left) > 0 {
		t.Errorf("a journal in use was set aside: %v", left)
	}
}

func TestADirectoryThatOthersCanWriteIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	j := open(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, FileName): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	must(t, j.Close(), os.Chmod(dir, 0o777))
	if _, err := Open(Options{Dir: dir, HostID: testHost}); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("got %v", err)
	}
}
