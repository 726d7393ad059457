package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// prune does all steps of retention at a time.
func prune(t *testing.T, s *Store, now time.Time, keep time.Duration) {
	t.Helper()
	for range 10_000 {
		more, err := s.step(t.Context(), now.Add(-keep))
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
	t.Fatal("retention does not come to an end")
}

func TestSixtyDaysWithARetentionOfTenKeepTenAndNoLeftovers(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	daily := process("/bin/daily", "daily", 1)
	next := uint64(1)
	for day := range int64(60) {
		var records []*wire.Record
		for i := range int64(10) {
			n := int(day*10 + i)
			records = append(records,
				flow(day*86400+i*60, daily, 1, 1, "1.1.1.1", "daily.example"),
				flow(day*86400+i*60, process(fmt.Sprintf("/bin/%d", n), fmt.Sprint("once ", n), n+10), 1, 1,
					fmt.Sprintf("10.0.%d.%d", n/250, n%250), fmt.Sprintf("n%d.example", n)))
		}
		records = append(records, &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{End: start + day*86400e9}}},
			&wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: start + day*86400e9}}},
			&wire.Record{Kind: &wire.Record_Listen{Listen: &wire.Listen{Time: start + day*86400e9}}})
		apply(t, s, batch(1, next, records...))
		next += uint64(len(records))
		prune(t, s, time.Unix(0, start+(day+1)*86400e9), 10*24*time.Hour)
		if day%20 == 19 {
			wantValue(t, s, "0", "SELECT count(*) FROM pragma_foreign_key_check")
		}
	}
	wantValue(t, s, "200", "SELECT count(*) FROM connections")
	wantValue(t, s, "100", "SELECT count(*) FROM windows")
	wantValue(t, s, "10 10 10", "SELECT (SELECT count(*) FROM gaps) || ' ' || (SELECT count(*) FROM notices) || ' ' || (SELECT count(*) FROM events)")
	// What is left over lives two hours longer at most, and the batches stay as anchors.
	for _, table := range []string{"processes", "executables", "addresses"} {
		wantValue(t, s, "1", "SELECT count(*) BETWEEN 101 AND 125 FROM "+table)
	}
	wantValue(t, s, "1", "SELECT count(*) BETWEEN 200 AND 250 FROM texts")
	wantValue(t, s, "60", "SELECT count(*) FROM batches")
	wantValue(t, s, "ok", "PRAGMA integrity_check")
	if on, _, err := s.writer.conn.number("PRAGMA foreign_keys"); err != nil || on != 1 {
		t.Errorf("foreign keys afterwards: %d, %v", on, err)
	}
}

func TestRetentionDoesNotTakeWhatABatchStillUses(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	p := process("/bin/a", "a", 1)
	hours := int64(0)
	for next := uint64(1); next < 30; next++ {
		apply(t, s, batch(1, next, flow(hours*3600, p, 1, 1, "1.1.1.1", "a")))
		prune(t, s, time.Unix(0, start+hours*3600e9), time.Hour)
		hours += 3
		wantValue(t, s, "0", "SELECT count(*) FROM pragma_foreign_key_check")
	}
	wantValue(t, s, "/bin/a", "SELECT exe FROM connections")
}

func TestRetentionTakesNothingForOldThatHasNoTime(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	now := time.Unix(0, start).Add(24 * time.Hour)
	s.now = func() time.Time { return now }
	b := batch(1, 1, flow(0, process("/bin/a", "a", 1), 1, 1, "1.1.1.1", ""), &wire.Record{}, &wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{}}},
		&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Reason: wire.GapReason_GAP_POISON}}})
	apply(t, s, b)
	prune(t, s, now, 10*24*time.Hour)
	if got := states(evidence(t, s, nil)); got != "sound" {
		t.Errorf("within the days that are kept: got %s", got)
	}
	prune(t, s, now.Add(20*24*time.Hour), 10*24*time.Hour)
	wantValue(t, s, "0 0 0", "SELECT (SELECT count(*) FROM gaps) || ' ' || (SELECT count(*) FROM notices) || ' ' || (SELECT count(*) FROM events)")
	if got := states(evidence(t, s, nil)); got != "expired" {
		t.Errorf("later: got %s", got)
	}
}

func TestSpaceIsGivenBack(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	for range 5 {
		apply(t, s, g.Batch(3000))
	}
	before := value(t, s, "SELECT page_count FROM pragma_page_count")
	prune(t, s, time.Unix(0, start).Add(1000*time.Hour), 0)
	wantValue(t, s, "1", "SELECT page_count < CAST(? AS INTEGER) / 2 FROM pragma_page_count", before)
}

func TestTheJanitorAppliesRetentionByItself(t *testing.T) {
	t.Parallel()
	s, err := configure(t, t.TempDir(), nil) // 30 days
	if err != nil {
		t.Fatal(err)
	}
	old := flow(-86400*365*3, process("/bin/old", "old", 1), 1, 1, "1.1.1.1", "")
	apply(t, s, batch(1, 1, old))
	s.stop()
	s.wait.Wait()
	s.startJanitor(t.Context()) // again, so that the test need not wait for its next round
	deadline := time.Now().Add(30 * time.Second)
	for value(t, s, "SELECT count(*) FROM flows") != "0" {
		if time.Now().After(deadline) {
			t.Fatal("the row of 2023 is still there")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// live stores a day's rows at a time and does what retention asks for, by a clock of its own.
func live(t *testing.T, s *Store, days int64, rowsADay int) {
	t.Helper()
	g := newGenerator(1)
	for d := range days {
		b := g.Batch(rowsADay)
		for i, r := range b.GetRecords() {
			end := start + d*day + int64(i)*day/int64(rowsADay)
			r.GetFlow().Window = &wire.Window{Start: end - 10*second, End: end}
		}
		b.Raw = nil
		apply(t, s, b)
		s.now = func() time.Time { return time.Unix(0, start+(d+1)*day) }
		if err := s.round(t.Context(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSixtyDaysWithinSomeBytesStayWithinThemAndKeepTheNewest(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	s.config.maxBytes = 3 << 19 // less than a person may set, so that the test is short
	live(t, s, 60, 400)
	size, _, err := s.writer.conn.number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
	if err != nil || size > 3<<20 {
		t.Errorf("%d bytes, %v, want about %d", size, err, s.config.maxBytes)
	}
	wantValue(t, s, "1", "SELECT count(*) > 1200 FROM flows") // three days and more
	wantValue(t, s, "1", "SELECT max(ended) > ? FROM windows", start+59*day)
	wantSound(t, s)
}

func TestSixtyDaysByTheClockKeepTheDaysAskedForAndTheirSums(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	s.config.retention = 10 * 24 * time.Hour
	live(t, s, 60, 100)
	wantValue(t, s, "1000", "SELECT count(*) FROM connections")
	wantSound(t, s)
	wantValue(t, s, "240", "SELECT count(DISTINCT bucket) FROM program_sums WHERE width = 3600")
	wantValue(t, s, "9", "SELECT count(DISTINCT bucket) FROM program_sums WHERE width = 86400") // the last day is not over
	wantValue(t, s, "1", "SELECT count(DISTINCT bucket) BETWEEN 2 * 100 - 2 AND 2 * 100 FROM program_sums WHERE width = 60")
	want, _ := ask(t, s, &wire.Query{By: []string{"exe"}})
	s.rowsOnly = true
	got, _ := ask(t, s, &wire.Query{By: []string{"exe"}})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestABatchDoesNotWaitForRetention(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	g := newGenerator(1)
	for range 10 {
		apply(t, s, g.Batch(3000))
	}
	cutoff := time.Unix(0, start).Add(1000 * time.Hour)
	steps, longest := 0, time.Duration(0)
	for more := true; more; steps++ {
		at := time.Now()
		var err error
		if more, err = s.step(t.Context(), cutoff); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(at))
	}
	if steps < 15 {
		t.Errorf("30,000 rows went in %d steps: a batch has to wait for a long one", steps)
	}
	t.Logf("%d steps, the longest took %v", steps, longest) // measured only: other programs run too
}
