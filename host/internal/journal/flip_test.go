package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ledger is what a file holds for each sink.
type ledger struct {
	epochs []sdk.Epoch
	texts  map[string]map[sdk.Epoch][]string // sink -> epoch -> text by sequence-1
	acked  map[string]int                    // records of the first epoch
}

func (l *ledger) add(e sdk.Epoch, texts map[string]string) {
	for sink, text := range texts {
		l.texts[sink][e] = append(l.texts[sink][e], text)
	}
}

// busyFile makes a journal of two runs with three sinks that have come differently far, records set aside and retried, and
// a backlog discarded. It returns the file as kill -9 would leave it, and after a clean stop.
func busyFile(t *testing.T) (crashed, closed []byte, l *ledger) {
	t.Helper()
	dir := t.TempDir()
	l = &ledger{texts: map[string]map[sdk.Epoch][]string{"a": {}, "b": {}, "c": {}}, acked: map[string]int{"b": 200}}
	fill := func(j *Journal, name string, batches int) {
		for i := range batches {
			appendTo(t, j, notices(20, fmt.Sprint(name, " ", i)), Mark{"m", fmt.Append(nil, i)})
			for n := range 20 {
				text := fmt.Sprintf("%s %d %d", name, i, n)
				l.add(j.Epoch(), map[string]string{"a": text, "b": text, "c": text})
			}
		}
	}
	j := open(t, dir)
	first := j.Epoch()
	for sink := range l.texts {
		cursor(t, j, sink)
	}
	fill(j, "first", 15)
	must(t, cursor(t, j, "b").Ack(sdk.Watermark{Epoch: first, Sequence: 200}))
	must(t, cursor(t, j, "b").SetAside(first, notices(2, "poison"), "odd"))
	_, err := j.Discard(t.Context(), "c")
	must(t, err, j.Close())
	j = open(t, dir)
	l.epochs = []sdk.Epoch{first, j.Epoch()}
	fill(j, "second", 10)
	_, err = j.Retry("b")
	must(t, err)
	for n := range 2 {
		l.add(j.Epoch(), map[string]string{"a": "", "b": fmt.Sprint("poison ", n), "c": ""})
	}
	fill(j, "third", 5)
	crashed, err = os.ReadFile(filepath.Join(dir, FileName))
	must(t, err, j.Close())
	closed, err = os.ReadFile(filepath.Join(dir, FileName))
	must(t, err)
	return crashed, closed, l
}

// receipt is what one sink got of one epoch.
type receipt struct {
	covered map[uint64]bool // records that came or are in a Gap
	open    uint64          // from here on the journal says that it does not know; 0: it knows
}

// receive takes everything that a sink gets of earlier runs. Every record must be what the ledger says.
func (l *ledger) receive(t *testing.T, c *Cursor) map[sdk.Epoch]*receipt {
	t.Helper()
	all := map[sdk.Epoch]*receipt{}
	for _, e := range l.epochs {
		all[e] = &receipt{covered: map[uint64]bool{}}
	}
	for n := 0; c.Lag() > 0; n++ {
		b, err := c.Next(t.Context())
		if damaged := new(DamagedError); errors.As(err, &damaged) {
			b = Batch{Epoch: damaged.Epoch, First: damaged.First, Last: damaged.Last}
			all[b.Epoch].cover(damaged.First, damaged.Last)
		} else {
			must(t, err)
		}
		var decoded wire.Batch
		must(t, proto.Unmarshal(b.Raw, &decoded))
		r := all[b.Epoch]
		if r == nil || n > 10000 {
			t.Fatalf("sink %s: batch %v/%d..%d", c.name, b.Epoch, b.First, b.Last)
		}
		for _, record := range decoded.Records {
			switch g, text := record.GetGap(), string(record.GetNotice().GetText().GetValue()); {
			case g.GetEvents() > 0:
				r.cover(g.First, g.Last)
			case g != nil:
				r.open = g.First
			case text != l.texts[c.name][b.Epoch][record.Sequence-1]:
				t.Errorf("sink %s: record %d is %q, want %q", c.name, record.Sequence, text, l.texts[c.name][b.Epoch][record.Sequence-1])
			default:
				r.cover(record.Sequence, record.Sequence)
			}
		}
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	return all
}

func (r *receipt) cover(first, last uint64) {
	for ; first <= last; first++ {
		r.covered[first] = true
	}
}

// missing are the records of an epoch that a sink lacked, and neither got nor heard of.
func (l *ledger) missing(sink string, epoch int, r *receipt) (lost []uint64) {
	have := 0
	if epoch == 0 {
		have = l.acked[sink]
	}
	for i := have; i < len(l.texts[sink][l.epochs[epoch]]); i++ {
		if n := uint64(i + 1); !r.covered[n] && (r.open == 0 || n < r.open) {
			lost = append(lost, n)
		}
	}
	return lost
}

// flip damages 1 to 12 bytes: anywhere, at the beginnings of pages, or in the page of the roots and small buckets.
func flip(random *rand.Rand, data []byte) {
	kind := random.IntN(3)
	for range 1 + random.IntN(12) {
		at := random.IntN(len(data))
		switch kind {
		case 1:
			at = at&^4095 + random.IntN(80)
		case 2:
			at = at&^4095 + random.IntN(1200)
		}
		data[at] ^= byte(1 + random.IntN(255))
	}
}

// flipped opens a file with random damage and tells what it is silent about.
func (l *ledger) flipped(t *testing.T, random *rand.Rand, file []byte) (silent int, all bool) {
	t.Helper()
	dir, data := t.TempDir(), bytes.Clone(file)
	flip(random, data)
	must(t, os.WriteFile(filepath.Join(dir, FileName), data, 0o600))
	j := open(t, dir)
	defer func() { must(t, j.Close()) }()
	r, aside := j.Recovered()
	for _, sink := range slices.Sorted(maps.Keys(l.texts)) {
		got := l.receive(t, cursor(t, j, sink))
		for i, e := range l.epochs {
			lost := l.missing(sink, i, got[e])
			if len(lost) == 0 {
				continue
			}
			if aside && r.Batches == 0 && len(r.Unknown) > 0 {
				return 0, true
			}
			silent += len(lost)
			t.Errorf("sink %s, epoch %d: nothing is said of %d records from %d to %d; recovered %+v", sink, i, len(lost), lost[0], lost[len(lost)-1], r)
		}
	}
	return silent, false
}

func TestNoRandomFlipLosesARecordSilently(t *testing.T) {
	t.Parallel()
	crashed, closed, l := busyFile(t)
	random := rand.New(rand.NewPCG(3, 5)) // the same damage in every run
	nothing := 0
	for round := range 60 {
		file := crashed
		if round%2 == 0 {
			file = closed
		}
		silent, all := l.flipped(t, random, file)
		if silent > 0 {
			t.Fatalf("round %d", round)
		}
		if all {
			nothing++
		}
	}
	if nothing > 6 {
		t.Errorf("%d of 60 files could not be read at all", nothing)
	}
}
