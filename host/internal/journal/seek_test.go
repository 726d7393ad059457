package journal

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/sdk"
)

func mark(epoch byte, sequence uint64) sdk.Watermark {
	return sdk.Watermark{Epoch: sdk.Epoch{epoch}, Sequence: sequence}
}

// TestSeekGoesByTheSinksWord uses epochs 1 to 4 of 100 records each: of epoch 1 nothing is in the file any more, of
// epoch 2 what follows 40; epoch 4 is the current one.
func TestSeekGoesByTheSinksWord(t *testing.T) {
	t.Parallel()
	epochs := []run{
		{ordinal: 1, epoch: sdk.Epoch{1}, kept: 101, last: 100},
		{ordinal: 3, epoch: sdk.Epoch{2}, kept: 41, last: 100},
		{ordinal: 4, epoch: sdk.Epoch{3}, kept: 1, last: 100},
		{ordinal: 7, epoch: sdk.Epoch{4}, kept: 1, last: 100},
	}
	for _, c := range []struct {
		name string
		at   place
		from place // where the sink began
		ws   []sdk.Watermark
		want place
		// wantNext are the records that come, by epoch: the first of each.
		wantNext map[uint64]uint64
		rolled   []sdk.Watermark
		lost     []Span
	}{
		{name: "no memory: our place stands", at: place{3, 60}, want: place{3, 60},
			wantNext: map[uint64]uint64{3: 61, 4: 1, 7: 1}},
		{name: "ahead of our lazy place", at: place{3, 60}, want: place{4, 10},
			ws: []sdk.Watermark{mark(1, 100), mark(2, 100), mark(3, 10)}, wantNext: map[uint64]uint64{4: 11, 7: 1}},
		{name: "behind our place: an uncommitted transaction was lost", at: place{7, 50}, want: place{7, 30},
			ws: []sdk.Watermark{mark(2, 100), mark(3, 100), mark(4, 30)}, wantNext: map[uint64]uint64{7: 31}},
		{name: "everything is there", at: place{7, 100}, want: place{7, 100},
			ws: []sdk.Watermark{mark(4, 100)}, wantNext: map[uint64]uint64{}},
		{name: "put back from a backup", at: place{7, 50}, want: place{3, 20},
			ws: []sdk.Watermark{mark(1, 100), mark(2, 20)}, wantNext: map[uint64]uint64{3: 41, 4: 1, 7: 1},
			lost: []Span{{sdk.Epoch{2}, 21, 40}}},
		{name: "put back from an older backup", at: place{7, 50}, want: place{3, 0},
			ws: []sdk.Watermark{mark(1, 50)}, wantNext: map[uint64]uint64{3: 41, 4: 1, 7: 1},
			lost: []Span{{sdk.Epoch{1}, 51, 100}, {sdk.Epoch{2}, 1, 40}}},
		{name: "new, and says that it has nothing of what was before it", at: place{3, 40}, from: place{3, 40}, want: place{3, 0},
			ws: []sdk.Watermark{mark(2, 0)}, wantNext: map[uint64]uint64{3: 41, 4: 1, 7: 1}},
		{name: "lost what it had since it began", at: place{7, 50}, from: place{3, 30}, want: place{3, 0},
			ws: []sdk.Watermark{mark(2, 0)}, wantNext: map[uint64]uint64{3: 41, 4: 1, 7: 1}, lost: []Span{{sdk.Epoch{2}, 31, 40}}},
		{name: "a hole that was reported before the newer epoch began", at: place{7, 50}, want: place{3, 0},
			ws: []sdk.Watermark{mark(1, 50), mark(4, 50)}, wantNext: map[uint64]uint64{3: 41, 4: 1, 7: 51}},
		{name: "an older epoch still open", at: place{3, 60}, want: place{3, 70},
			ws: []sdk.Watermark{mark(2, 70), mark(4, 5)}, wantNext: map[uint64]uint64{3: 71, 4: 1, 7: 6}},
		{name: "our undelivered records are not passed over", at: place{3, 60}, want: place{3, 60},
			ws: []sdk.Watermark{mark(4, 0)}, wantNext: map[uint64]uint64{3: 61, 4: 1, 7: 1}},
		{name: "the journal was begun anew", at: place{7, 0}, want: place{7, 0},
			ws: []sdk.Watermark{mark(8, 5), mark(9, 6)}, wantNext: map[uint64]uint64{7: 1},
			rolled: []sdk.Watermark{mark(8, 5), mark(9, 6)}},
		{name: "the journal was begun anew, a run ago", at: place{7, 0}, want: place{7, 20},
			ws: []sdk.Watermark{mark(8, 5), mark(9, 6), mark(4, 20)}, wantNext: map[uint64]uint64{7: 21}},
		{name: "the journal was put back: beyond our sequence", at: place{3, 60}, want: place{7, 0},
			ws: []sdk.Watermark{mark(2, 100), mark(3, 150)}, wantNext: map[uint64]uint64{7: 1},
			rolled: []sdk.Watermark{mark(3, 150)}},
		{name: "the journal was put back: epochs that it never saw", at: place{3, 60}, want: place{4, 30},
			ws: []sdk.Watermark{mark(2, 100), mark(3, 30), mark(8, 9)}, wantNext: map[uint64]uint64{4: 31, 7: 1},
			rolled: []sdk.Watermark{mark(8, 9)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := plan(epochs, c.from, c.at, c.ws)
			cur := &Cursor{j: &Journal{epochs: epochs}, at: p.at, floors: p.floors}
			next := map[uint64]uint64{}
			for _, w := range cur.wantedLocked() {
				next[w.ordinal] = w.after + 1
			}
			if p.at != c.want {
				t.Errorf("place %v, want %v", p.at, c.want)
			}
			if d := cmp.Diff(c.wantNext, next); d != "" {
				t.Errorf("next (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.rolled, p.sought.RolledBack); d != "" {
				t.Errorf("rolled back (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.lost, p.sought.Lost); d != "" {
				t.Errorf("lost (-want +got):\n%s", d)
			}
		})
	}
}

func TestSeekIntoABatchGivesTheWholeBatchAgain(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	appendTo(t, j, notices(5, "one"))
	appendTo(t, j, notices(5, "two"))
	for _, s := range []struct{ have, first uint64 }{{0, 1}, {3, 1}, {5, 6}, {7, 6}, {9, 6}} {
		c.Seek([]sdk.Watermark{{Epoch: j.Epoch(), Sequence: s.have}})
		if b := next(t, c); b.First != s.first {
			t.Errorf("after %d: batch %d, want %d", s.have, b.First, s.first)
		}
	}
	c.Seek([]sdk.Watermark{{Epoch: j.Epoch(), Sequence: 10}})
	if !idle(t, c) {
		t.Error("a batch after the last")
	}
}

func TestWhatWasDeletedBeforeASinkBeganIsNotLostAfterARestart(t *testing.T) {
	t.Parallel()
	now := &clock{at: time.Unix(1700000000, 0)}
	dir := t.TempDir()
	j := openAt(t, dir, now.now)
	first := j.Epoch()
	cursor(t, j, "a")
	appendTo(t, j, notices(10, "old"))
	must(t, j.Unregister("a")) // it has 5 of them
	now.advance(slack + time.Second)
	appendTo(t, j, nil)
	must(t, j.Close())
	for restart := range 3 { // it comes back, and its host is started anew before it took anything
		j = openAt(t, dir, now.now)
		if lost := cursor(t, j, "a").Seek([]sdk.Watermark{{Epoch: first, Sequence: 5}}).Lost; len(lost) > 0 {
			t.Errorf("start %d: lost %v", restart, lost)
		}
		must(t, j.Close())
	}
}
