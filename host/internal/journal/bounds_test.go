package journal

import (
	"fmt"
	"maps"
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

func openBounded(t *testing.T, o Options) *Journal {
	t.Helper()
	o.HostID = testHost
	j, err := Open(o)
	must(t, err)
	t.Cleanup(func() { must(t, j.Close()) })
	return j
}

func stats(t *testing.T, j *Journal) Stats {
	t.Helper()
	s, err := j.Stats()
	must(t, err)
	return s
}

// crashed copies a journal's file as kill -9 would leave it, into a directory of its own.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	must(t, err)
	copied := t.TempDir()
	must(t, os.WriteFile(filepath.Join(copied, FileName), data, 0o600))
	return copied
}

// wide makes a window of 20 records, 60 KiB.
func wide(i int) []*wire.Record { return notices(20, fmt.Sprint(i, strings.Repeat("x", 3000))) }

func TestAFullJournalDropsForTheLaggingSinkOnly(t *testing.T) {
	t.Parallel()
	const windows, bound = 200, 4 << 20 // 12 MiB
	dir := t.TempDir()
	j := openBounded(t, Options{Dir: dir, MaxBytes: bound})
	slow, fast := cursor(t, j, "slow"), cursor(t, j, "fast")
	got := 0
	for i := range windows {
		appendTo(t, j, wide(i))
		got += len(read(t, fast))
		if s := stats(t, j); s.Used > bound+growth || s.Live > bound {
			t.Fatalf("window %d: %d bytes, %d of them live, with a bound of %d", i, s.Used, s.Live, bound)
		}
	}
	if got != 20*windows {
		t.Errorf("the fast sink got %d records, want %d", got, 20*windows)
	}
	dropped := stats(t, j).Sinks["slow"].Dropped
	if want := (Dropped{Size: dropped.Size}); dropped != want || dropped.Size == 0 {
		t.Errorf("dropped %+v", dropped)
	}
	if s := stats(t, j).Sinks["fast"]; s.Dropped.Total() > 0 || s.Records > 0 {
		t.Errorf("fast: %+v", s)
	}
	later := open(t, crashed(t, dir)) // killed before the slow sink was told
	for name, c := range map[string]*Cursor{"slow": slow, "after kill -9": cursor(t, later, "slow")} {
		lag := c.Lag()
		texts, gaps := readAll(t, c)
		if len(gaps) != 1 || gaps[0].First != 1 || gaps[0].Last != dropped.Size || gaps[0].Reason != wire.GapReason_GAP_QUEUE_DROPPED {
			t.Fatalf("%s: gaps %v, want one of %d records", name, gaps, dropped.Size)
		}
		if uint64(len(texts))+gaps[0].Events != 20*windows || lag != uint64(len(texts))+1 {
			t.Errorf("%s: %d records after a gap of %d; the lag was %d", name, len(texts), gaps[0].Events, lag)
		}
		if want := fmt.Sprint(windows-1, strings.Repeat("x", 3000), " 19"); len(texts) == 0 || texts[len(texts)-1] != want {
			t.Errorf("%s: the last record is missing", name)
		}
	}
	read(t, cursor(t, later, "fast")) // perhaps what it acknowledged in the last second, and no gap
}

func TestAGapThatASinkHasDoesNotGrow(t *testing.T) {
	t.Parallel()
	j := openBounded(t, Options{Dir: t.TempDir(), MaxBytes: leastMaxBytes})
	c := cursor(t, j, "a")
	i := 0
	fill := func() uint64 {
		for range 100 {
			appendTo(t, j, wide(i))
			i++
		}
		return stats(t, j).Sinks["a"].Dropped.Size
	}
	before := fill()
	first := next(t, c) // handed over; it dies before it acknowledges
	fill()
	if again := next(t, c); again.Last != first.Last || string(again.Raw) != string(first.Raw) || first.Last != before {
		t.Errorf("the gap ends at %d, then at %d, dropped were %d", first.Last, again.Last, before)
	}
	_, gaps := readAll(t, c)
	if len(gaps) != 2 || gaps[1].First != gaps[0].Last+1 {
		t.Errorf("gaps %v, want two that follow each other", gaps)
	}
}

func TestASinkThatHasAPartGetsAGapForTheRest(t *testing.T) {
	t.Parallel()
	j := openBounded(t, Options{Dir: t.TempDir(), MaxBytes: leastMaxBytes})
	c, other := cursor(t, j, "a"), cursor(t, j, "b")
	for i := range 100 {
		appendTo(t, j, wide(i))
	}
	// The answer to 1 to 30 was lost: only the sink itself knows.
	sought := c.Seek([]sdk.Watermark{{Epoch: j.Epoch(), Sequence: 30}})
	if len(sought.Lost)+len(sought.RolledBack) > 0 {
		t.Errorf("sought %+v: a gap is owed twice", sought)
	}
	for sink, want := range map[*Cursor]uint64{c: 31, other: 1} {
		if _, gaps := readAll(t, sink); len(gaps) != 1 || gaps[0].First != want {
			t.Errorf("%s: gaps %v, want one from %d", sink.name, gaps, want)
		}
	}
}

func TestEarlierEpochsAreDroppedWithAGapEach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 3 {
		j, err := Open(Options{Dir: dir, HostID: testHost, MaxBytes: leastMaxBytes})
		must(t, err)
		cursor(t, j, "a")
		for n := range 14 {
			appendTo(t, j, wide(i*14+n))
		}
		must(t, j.Close())
	}
	j := openBounded(t, Options{Dir: dir, MaxBytes: leastMaxBytes})
	for i := range 60 {
		appendTo(t, j, wide(i))
	}
	c := cursor(t, j, "a")
	c.Seek(nil)
	texts, gaps := readAll(t, c)
	if len(gaps) != 4 || uint64(len(texts))+gaps[0].Events+gaps[1].Events+gaps[2].Events+gaps[3].Events != 102*20 {
		t.Errorf("%d records and gaps %v, want one per epoch, 2040 in all", len(texts), gaps)
	}
}

func TestWhatWaitedTooLongIsDropped(t *testing.T) {
	t.Parallel()
	now := &clock{at: time.Unix(1700000000, 0)}
	var slept time.Duration
	j := openBounded(t, Options{Dir: t.TempDir(), Now: now.now, MaxAge: 24 * time.Hour,
		elapsed: func() time.Duration { return now.now().Sub(time.Unix(1700000000, 0)) - slept }})
	c := cursor(t, j, "a")
	appendTo(t, j, notices(5, "old"))
	now.advance(23 * time.Hour)
	appendTo(t, j, notices(5, "young"))
	if n := stored(t, j); n != 2 {
		t.Fatalf("%d batches, want 2", n)
	}
	slept = 30 * time.Hour // and nobody had a chance to take anything
	now.advance(slept)
	appendTo(t, j, nil)
	if n := stored(t, j); n != 2 {
		t.Fatalf("%d batches after a sleep, want 2", n)
	}
	now.advance(chance - time.Minute)
	appendTo(t, j, notices(5, "new"))
	if n := stored(t, j); n != 3 {
		t.Fatalf("%d batches before the chance is over, want 3", n)
	}
	now.advance(2 * time.Minute)
	must(t, j.patrol()) // without an Append
	texts, gaps := readAll(t, c)
	equal(t, texts, []string{"new 0", "new 1", "new 2", "new 3", "new 4"})
	if len(gaps) != 1 || gaps[0].Last != 10 || gaps[0].Cause != CauseAge.String() {
		t.Errorf("gaps %v", gaps)
	}
	if d := stats(t, j).Sinks["a"].Dropped; d != (Dropped{Age: 10}) {
		t.Errorf("dropped %+v", d)
	}
}

func TestHolesAreForgottenWhenEverybodyIsPastThem(t *testing.T) {
	t.Parallel()
	now := &clock{at: time.Unix(1700000000, 0)}
	j := openBounded(t, Options{Dir: t.TempDir(), Now: now.now, MaxBytes: leastMaxBytes})
	a, b := cursor(t, j, "a"), cursor(t, j, "b")
	for i := range 100 {
		appendTo(t, j, wide(i))
	}
	for _, c := range []*Cursor{a, b} {
		now.advance(slack + time.Second)
		appendTo(t, j, nil)
		if len(j.holesNow()) != 1 {
			t.Fatalf("holes %v, and somebody has to be told", j.holesNow())
		}
		if _, gaps := readAll(t, c); len(gaps) != 1 {
			t.Errorf("gaps %v", gaps)
		}
	}
	now.advance(slack + time.Second)
	appendTo(t, j, nil)
	appendTo(t, j, nil)
	if len(j.holesNow()) > 0 {
		t.Errorf("holes %v are left", j.holesNow())
	}
}

func TestADiscardedBacklogIsAGapForThatSinkAndFreesItsSpace(t *testing.T) {
	t.Parallel()
	now := &clock{at: time.Unix(1700000000, 0)}
	dir := t.TempDir()
	j := openAt(t, dir, now.now)
	c, other := cursor(t, j, "a"), cursor(t, j, "b")
	appendTo(t, j, notices(5, "before"))
	must(t, c.Ack(sdk.Watermark{Epoch: j.Epoch(), Sequence: 2}))
	if n, err := j.Discard(t.Context(), "a"); n != 3 || err != nil {
		t.Fatalf("discarded %d, %v, want 3", n, err)
	}
	appendTo(t, j, notices(2, "after"))
	equal(t, read(t, other)[3:], []string{"before 3", "before 4", "after 0", "after 1"})
	now.advance(slack + time.Second)
	appendTo(t, j, nil) // a is still away, and nobody needs the first batch
	if n := stored(t, j); n != 1 {
		t.Errorf("%d batches are left, want 1", n)
	}
	later := open(t, crashed(t, dir))
	for _, c := range []*Cursor{c, cursor(t, later, "a")} {
		texts, gaps := readAll(t, c)
		equal(t, texts, []string{"after 0", "after 1"})
		if len(gaps) != 1 || gaps[0].First != 3 || gaps[0].Last != 5 || gaps[0].Cause != CauseDiscarded.String() {
			t.Errorf("gaps %v", gaps)
		}
	}
	if a := stats(t, j).Sinks["a"]; a.Dropped != (Dropped{Discarded: 3}) || !maps.Equal(a.Lost(), map[string]uint64{"backlog discarded": 3}) {
		t.Errorf("dropped %+v, lost %v", a.Dropped, a.Lost())
	}
	if n, err := j.Discard(t.Context(), "a"); n != 0 || err != nil {
		t.Errorf("nothing waits: discarded %d, %v", n, err)
	}
	if _, err := j.Discard(t.Context(), "nobody"); err == nil {
		t.Error("discarded the backlog of nobody")
	}
}

func TestAStuckSinkDelaysNobody(t *testing.T) {
	t.Parallel()
	const windows, each = 400, 500 // 200,000 records
	j := openBounded(t, Options{Dir: t.TempDir(), MaxBytes: leastMaxBytes})
	stuck := cursor(t, j, "stuck")
	held := make(chan Batch)
	go func() { // it takes one batch and never comes back, with whatever a reader may hold
		b, _ := stuck.Next(t.Context())
		held <- b
	}()
	done := make(chan uint64, 2)
	for _, name := range []string{"a", "b"} {
		c := cursor(t, j, name)
		go func() {
			seen := uint64(0)
			for seen < windows*each {
				b, err := c.Next(t.Context())
				if err != nil || b.Gap || b.First != seen+1 {
					break
				}
				seen = b.Last
				_ = c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last})
			}
			done <- seen
		}()
	}
	var slowest time.Duration
	for i := range windows {
		records := notices(each, fmt.Sprint(i))
		begun := time.Now()
		appendTo(t, j, records)
		slowest = max(slowest, time.Since(begun))
		for first := i == 0; first; first = false {
			<-held
		}
		for cursor(t, j, "a").Lag() > 50*each || cursor(t, j, "b").Lag() > 50*each {
			time.Sleep(time.Millisecond) // within the bound: the others are not to be dropped for
		}
	}
	for range 2 {
		if seen := <-done; seen != windows*each {
			t.Errorf("a sink got %d records, want %d", seen, windows*each)
		}
	}
	t.Logf("slowest append of %d records: %v", each, slowest)
	texts, gaps := readAll(t, stuck)
	if len(gaps) != 1 || gaps[0].Events+uint64(len(texts)) != windows*each {
		t.Errorf("the stuck one gets %v and %d records", gaps, len(texts))
	}
}

func TestASinkThatIsOvertakenSeesNoHoleUnexplained(t *testing.T) {
	t.Parallel()
	const windows = 170
	j := openBounded(t, Options{Dir: t.TempDir(), MaxBytes: leastMaxBytes})
	c := cursor(t, j, "a")
	appended := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < windows && err == nil; i++ {
			_, _, err = j.Append(wide(i))
		}
		appended <- err
	}()
	seen, gaps, batches := uint64(0), 0, 0
	for seen < windows*20 {
		b := next(t, c)
		first := b.First
		if b.Gap {
			var decoded wire.Batch
			must(t, proto.Unmarshal(b.Raw, &decoded))
			first = checkGap(t, "a", b, &decoded).First
			gaps++
		}
		if first != seen+1 {
			t.Fatalf("%d after %d", first, seen)
		}
		seen = b.Last
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
		overtaken := func() bool {
			return slices.ContainsFunc(j.holesNow(), func(h hole) bool { return h.last > seen })
		}
		for batches++; batches%5 == 1 && len(appended) == 0 && !overtaken(); {
			time.Sleep(100 * time.Microsecond) // and be read at the very moment
		}
	}
	must(t, <-appended)
	if gaps < 3 {
		t.Errorf("it was overtaken %d times only", gaps)
	}
	t.Logf("overtaken %d times", gaps)
}
