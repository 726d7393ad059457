package journal

import (
	"errors"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestAppendGivesSequencesWithoutGaps(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	for i, want := range [][2]uint64{{1, 3}, {4, 4}, {0, 0}, {5, 6}} {
		n := int(want[1] - want[0] + 1)
		if want[1] == 0 {
			n = 0
		}
		if first, last := appendTo(t, j, notices(n, "x")); first != want[0] || last != want[1] {
			t.Errorf("append %d: %d..%d, want %v", i, first, last, want)
		}
	}
}

func TestAppendCutsBatches(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	appendTo(t, j, notices(wire.MaxBatchRecords+1, "many"))
	if b := next(t, c); b.Last != wire.MaxBatchRecords {
		t.Errorf("first batch ends at %d", b.Last)
	}
	if got := read(t, c); len(got) != wire.MaxBatchRecords+1 {
		t.Errorf("%d records", len(got))
	}
	large := notices(5, strings.Repeat("x", 400<<10))
	appendTo(t, j, large)
	if b := next(t, c); b.Last-b.First != 1 {
		t.Errorf("%d records of 400 KiB in a batch", b.Last-b.First+1)
	}
	if got := read(t, c); len(got) != 5 {
		t.Errorf("%d large records", len(got))
	}
}

func TestARecordLargerThanABatchIsAnErrorAndNothingIsTaken(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	records := append(notices(2, "fine"), notices(1, strings.Repeat("x", wire.MaxBatchBytes))...)
	if _, _, err := j.Append(records, Mark{"m", []byte("1")}); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "record 2") {
		t.Errorf("got %v", err)
	}
	if _, ok := j.Mark("m"); ok {
		t.Error("the mark was taken")
	}
	if first, _ := appendTo(t, j, records[:2]); first != 1 {
		t.Errorf("first is %d after an append that failed", first)
	}
	equal(t, read(t, c), []string{"fine 0", "fine 1"})
}

func TestABatchIsLargestWhenTheEnvelopeIs(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	// Walk over the edge byte by byte: neither a batch above the limit nor a record refused that would fit.
	for n := wire.MaxBatchBytes - 200; n < wire.MaxBatchBytes-100; n++ {
		if _, _, err := j.Append(notices(1, strings.Repeat("x", n))); err != nil {
			if n < wire.MaxBatchBytes-envelope-64 {
				t.Errorf("%d bytes refused: %v", n, err)
			}
			return
		}
		b := next(t, c)
		if len(b.Raw) > wire.MaxBatchBytes {
			t.Fatalf("batch of %d bytes", len(b.Raw))
		}
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	t.Error("nothing was ever refused")
}

func TestAnAppendThatFailsCanBeMadeAgain(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	c := cursor(t, j, "a")
	appendTo(t, j, notices(1, "before"))
	j.db.MaxSize = 1 // the disk is full
	if _, _, err := j.Append(notices(500, strings.Repeat("x", 1000)), Mark{"m", []byte("1")}); err == nil || errors.Is(err, ErrBroken) {
		t.Fatalf("got %v, want an error that passes", err)
	}
	j.db.MaxSize = 0
	if first, _ := appendTo(t, j, notices(1, "after")); first != 2 {
		t.Errorf("first is %d", first)
	}
	equal(t, read(t, c), []string{"before 0", "after 0"})
}

func TestAfterAnUncertainCommitNothingIsAppended(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	err := j.commit(purge{}, func(tx *bolt.Tx) error { panic("freeing a page twice") })
	if !errors.Is(err, ErrBroken) {
		t.Errorf("commit: %v", err)
	}
	if _, _, err := j.Append(notices(1, "x")); !errors.Is(err, ErrBroken) {
		t.Errorf("append: %v", err)
	}
}
