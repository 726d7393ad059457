package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/bench/rows"
)

// asker makes random questions about a store.
type asker struct {
	*rand.Rand
	from, to int64 // of the rows
}

func (a *asker) column() string {
	all := []string{"exe", "name", "uid", "raddr", "domain", "site", "rport", "unit", "protocol", "direction", "sha256", "pexe",
		"pname", "family", "container", "host_id", "gexe", "exe_scope"}
	if a.IntN(8) == 0 {
		all = []string{"cmdline", "laddr", "netns", "pid"}
	}
	return all[a.IntN(len(all))]
}

func (a *asker) filter(depth int) *wire.Filter {
	switch n := a.IntN(8); {
	case n == 0 && depth < 2:
		return all(a.filter(depth+1), a.filter(depth+1))
	case n == 1 && depth < 2:
		return anyOf(a.filter(depth+1), a.filter(depth+1))
	case n == 2 && depth < 2:
		return not(a.filter(depth + 1))
	case n == 3:
		return compare("raddr", wire.Compare_SUBNET, fmt.Sprintf("93.1.%d.0/%d", a.IntN(40), 18+a.IntN(8)))
	case n == 4:
		return compare("domain", wire.Compare_SUBSTRING, fmt.Sprint(a.IntN(30)))
	case n == 5:
		return equal("uid", fmt.Sprint(1000+a.IntN(5)))
	case n == 6:
		return equal("rport", "443", fmt.Sprint(a.IntN(100)))
	}
	return equal("exe", rows.Executable(a.IntN(5)), rows.Executable(a.IntN(5)))
}

// moment is a time among the rows, on an edge of a bucket every now and then.
func (a *asker) moment() int64 {
	at := a.from + a.Int64N(a.to-a.from)
	width := []int64{1, second, 60 * second, 3600 * second, day}[a.IntN(5)]
	return floor(at, width)
}

func (a *asker) query() *wire.Query {
	q := &wire.Query{Limit: uint32(1 + a.IntN(60)), Totals: a.IntN(2) == 0}
	for range a.IntN(3) {
		q.By = append(q.By, a.column())
	}
	if a.IntN(2) == 0 {
		q.Where = a.filter(0)
	}
	if a.IntN(4) > 0 {
		q.Start = a.moment()
	}
	if a.IntN(4) > 0 {
		q.End = max(q.Start, a.moment())
	}
	if a.IntN(3) == 0 {
		q.Bucket = []int64{60, 300, 3600, 7200, 86400, 7 * 86400, 144 * 60, 61}[a.IntN(8)] * second
		q.Zone = []string{"", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "UTC"}[a.IntN(6)]
		q.Limit = 400
	} else {
		q.Others = a.IntN(2) == 0
	}
	if a.IntN(2) == 0 {
		q.Order = []*wire.Order{{Column: []string{"sent", "received", "rows", "connects"}[a.IntN(4)], Descending: a.IntN(2) == 0}}
	}
	return q
}

// answer runs a query with roll-ups or without, page by page.
func (s *Store) answer(t *testing.T, q *wire.Query, rowsOnly bool) []string {
	t.Helper()
	s.rowsOnly = rowsOnly
	q = proto.CloneOf(q)
	var lines []string
	for range 3 { // pages
		rows, last := ask(t, s, q)
		lines = append(lines, rows...)
		lines = append(lines, fmt.Sprint("totals ", sumsText(last.GetTotals()), " others ", sumsText(last.GetOthers()), " ", last.GetOthersGroups()))
		if q.Cursor = last.GetCursor(); len(q.Cursor) == 0 {
			break
		}
	}
	return lines
}

func sumsText(m *wire.Measures) string {
	return fmt.Sprint(m.GetSent(), m.GetReceived(), m.GetSends(), m.GetReceives(), m.GetConnects(), m.GetAccepts(), m.GetFailures(), m.GetRows())
}

// days is a store with some weeks of traffic around the end of summer time in Europe: hours of it, then none for days. The
// last of it comes late.
func days(t *testing.T) (*Store, *asker) {
	t.Helper()
	s := open(t, t.TempDir())
	begin := time.Date(2026, 10, 9, 18, 11, 13, 0, time.UTC)
	g := rows.New(1, begin, 1)
	var end int64
	for _, days := range []int64{0, 3, 9, 15, 22, 40, 8} {
		b, err := g.Batch(1000)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range b.GetRecords() {
			w := r.GetFlow().GetWindow()
			w.Start, w.End = w.Start+days*day, w.End+days*day
			end = max(end, w.End)
			if i%97 == 0 {
				r.GetFlow().Layer = wire.Layer_LAYER_TUNNEL // in no sum
			}
		}
		b.Raw = nil
		apply(t, s, b)
	}
	return s, &asker{rand.New(rand.NewPCG(7, 7)), begin.UnixNano(), end}
}

func wantSameAnswers(t *testing.T, s *Store, a *asker, questions int) {
	t.Helper()
	rolled := 0
	for range questions {
		q := a.query()
		want, got := s.answer(t, q, true), s.answer(t, q, false)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%v (-rows +roll-ups):\n%s", q, diff)
		}
		if slices.ContainsFunc(planOf(t, s, q).spans, func(p span) bool { return p.width > 0 }) {
			rolled++
		}
	}
	if rolled < questions/3 {
		t.Errorf("only %d of %d questions were answered from roll-ups", rolled, questions)
	}
}

func planOf(t *testing.T, s *Store, q *wire.Query) plan {
	t.Helper()
	tx, err := s.readers.Load().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	f, err := readFacts(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := choose(q, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryAnswerFromRollUpsIsThatOfTheRows(t *testing.T) {
	t.Parallel()
	s, a := days(t)
	wantSameAnswers(t, s, a, 60)
}

func TestAnswersStayExactWhileRetentionWorksAndRowsAreDeletedByHand(t *testing.T) {
	t.Parallel()
	s, a := days(t)
	cutoff := a.from + (a.to-a.from)/3
	s.now = func() time.Time { return time.Unix(0, a.to) }
	for step := range 400 {
		more, err := s.step(t.Context(), time.Unix(0, cutoff))
		if err != nil {
			t.Fatal(err)
		}
		if step%9 == 0 {
			wantSameAnswersOnce(t, s, a)
		}
		if !more {
			break
		}
	}
	db := reader(t, s, "mode=rw&_busy_timeout=2000")
	if _, err := db.Exec("DELETE FROM connections WHERE exe = ?", rows.Executable(1)); err != nil {
		t.Fatal(err)
	}
	wantSameAnswers(t, s, a, 10)
	for range 10_000 {
		if more, err := s.step(t.Context(), time.Unix(0, cutoff)); err != nil {
			t.Fatal(err)
		} else if !more {
			break
		}
	}
	wantSound(t, s)
}

func wantSameAnswersOnce(t *testing.T, s *Store, a *asker) {
	t.Helper()
	q := a.query()
	if diff := cmp.Diff(s.answer(t, q, true), s.answer(t, q, false)); diff != "" {
		t.Fatalf("%v (-rows +roll-ups):\n%s", q, diff)
	}
}

func TestPagesFromRollUpsLeaveOutWhatCameLater(t *testing.T) {
	t.Parallel()
	s, a := days(t)
	q := &wire.Query{By: []string{"exe"}, Limit: 10, Order: []*wire.Order{{Column: "received", Descending: true}}}
	want := s.answer(t, q, true)
	s.rowsOnly = false
	first, page := ask(t, s, q)
	g := rows.New(2, time.Unix(0, a.to), 5)
	b, err := g.Batch(3000)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, b)
	q.Cursor = page.GetCursor()
	second, _ := ask(t, s, q)
	if diff := cmp.Diff(want[:10], first); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[11:21], second); diff != "" {
		t.Error(diff)
	}
}
