package journal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Cause says why a sink does not get records.
type Cause uint8

// Causes of a hole. The numbers are in the file.
const (
	CauseSize      Cause = 1 // the journal was full
	CauseAge       Cause = 2 // they waited too long
	CauseDiscarded Cause = 3 // somebody gave them up, see [Journal.Discard]
	CauseDamaged   Cause = 4 // the disk lost them
	CauseUnknown   Cause = 5 // the disk may have lost records from here on: nobody knows how many, if any
)

// String is the text that a Gap tells.
func (c Cause) String() string {
	switch c {
	case CauseSize:
		return "journal full"
	case CauseAge:
		return "waited too long in the journal"
	case CauseDiscarded:
		return "backlog discarded"
	case CauseDamaged:
		return "journal damaged"
	case CauseUnknown:
		return "journal damaged: not known how many records followed"
	}
	return "unknown"
}

func (c Cause) reason() wire.GapReason {
	if c == CauseDamaged || c == CauseUnknown {
		return wire.GapReason_GAP_JOURNAL_CORRUPT
	}
	return wire.GapReason_GAP_QUEUE_DROPPED
}

// hole is a range of one epoch that sinks get a Gap for instead: because the file no longer has it, or, with a sink named,
// because that sink is not to have it.
type hole struct {
	ordinal     uint64
	first, last uint64
	cause       Cause
	from, to    int64  // when the records were appended, ns UTC; 0: not known
	noted       int64  // when the hole was made, ns UTC
	sink        string // "": any that had not got there
	offered     bool   // a sink may have its Gap already: it must not grow
}

const holeSize = 8 + 1 + 8 + 8 + 8

func (h hole) key() []byte { return append(place{h.ordinal, h.first}.key(), h.sink...) }

func (h hole) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, h.last)
	b = append(b, byte(h.cause))
	for _, at := range []int64{h.from, h.to, h.noted} {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	return b
}

func parseHole(k, v []byte) (hole, error) {
	if len(k) < 16 || len(v) != holeSize {
		return hole{}, fmt.Errorf("%w: hole of %d and %d bytes", errDamaged, len(k), len(v))
	}
	at, err := parsePlace(k[:16])
	h := hole{
		ordinal: at.ordinal, first: at.sequence, sink: string(k[16:]), last: binary.BigEndian.Uint64(v), cause: Cause(v[8]),
		from: int64(binary.BigEndian.Uint64(v[9:])), to: int64(binary.BigEndian.Uint64(v[17:])),
		noted: int64(binary.BigEndian.Uint64(v[25:])), offered: true,
	}
	if err == nil && (h.first == 0 || h.last < h.first) {
		err = fmt.Errorf("%w: hole %d..%d", errDamaged, h.first, h.last)
	}
	return h, err
}

// concerns tells whether a sink that has everything up to have gets a Gap for the hole.
func (h hole) concerns(sink string, ordinal, have uint64) bool {
	return h.ordinal == ordinal && h.last > have && (h.sink == "" || h.sink == sink)
}

// holes are in no order; there are few.
type holes []hole

// next is the first hole that a sink comes upon after have; of those that begin for it at once, the longest.
func (hs holes) next(sink string, ordinal, have uint64) (found hole, ok bool) {
	for _, h := range hs {
		if !h.concerns(sink, ordinal, have) {
			continue
		}
		h.first = max(h.first, have+1)
		if !ok || h.first < found.first || h.first == found.first && h.last > found.last {
			found, ok = h, true
		}
	}
	return found, ok
}

// due counts what a sink still gets of an epoch after have: records, and one Gap for each hole.
func (hs holes) due(sink string, ordinal, have, last uint64) (n uint64) {
	for have < last {
		h, ok := hs.next(sink, ordinal, have)
		if !ok {
			return n + last - have
		}
		n += h.first - have // the records before it, and the Gap
		have = h.last
	}
	return n
}

// cover tells whether holes for all explain that nothing is there from first up to, but not including, end.
func (hs holes) cover(ordinal, first, end uint64) bool {
	for first < end {
		h, ok := hs.next("", ordinal, first-1)
		if !ok || h.first > first {
			return false
		}
		first = h.last + 1
	}
	return true
}

// add takes in a hole, joining it to one of the same kind that ends where it begins.
func (hs holes) add(h hole) holes {
	for i := range hs {
		o := &hs[i]
		if o.ordinal == h.ordinal && o.sink == h.sink && o.cause == h.cause && o.last+1 == h.first && !o.offered {
			o.last, o.to, o.noted = h.last, h.to, h.noted
			return hs
		}
	}
	return append(hs, h)
}

// replace takes in a hole for one sink, and leaves out those for it that lie within.
func (hs holes) replace(h hole) holes {
	return append(slices.DeleteFunc(hs, func(o hole) bool {
		return o.sink == h.sink && o.ordinal == h.ordinal && o.first >= h.first && o.last <= h.last
	}), h)
}

// writeHoles makes the bucket hold these and no others.
func writeHoles(tx *bolt.Tx, before, after holes) error {
	b := bucket(tx, nameHoles)
	for _, h := range before {
		same := func(o hole) bool { return o.ordinal == h.ordinal && o.first == h.first && o.sink == h.sink }
		if slices.ContainsFunc(after, same) {
			continue
		}
		if err := b.Delete(h.key()); err != nil {
			return fmt.Errorf("delete a hole: %w", err)
		}
	}
	for _, h := range after {
		if slices.Contains(before, h) {
			continue
		}
		if err := putSealed(tx, nameHoles, h.key(), h.encode()); err != nil {
			return fmt.Errorf("store a hole: %w", err)
		}
	}
	return nil
}

// gapBatch stands for the records of a hole: one Gap with the number of the last of them. It has no part in the chain of
// hashes, so that previous and root are empty.
func (j *Journal) gapBatch(r run, h hole, sink string) (Batch, error) {
	from, to := h.from, h.to
	if from == 0 {
		from, to = h.noted, h.noted
	}
	events := h.last - h.first + 1
	if h.cause == CauseUnknown {
		events = 0
	}
	batch := &wire.Batch{
		HostId: j.hostID[:], Epoch: r.epoch[:], First: h.last, Last: h.last,
		Records: []*wire.Record{{Sequence: h.last, Kind: &wire.Record_Gap{Gap: &wire.Gap{
			Start: from, End: max(from, to), Reason: h.cause.reason(), Cause: h.cause.String(), Events: events,
			Epoch: r.epoch[:], First: h.first, Last: h.last, Sink: sink,
		}}}},
	}
	raw, err := proto.Marshal(batch)
	if err != nil {
		return Batch{}, fmt.Errorf("encode a gap: %w", err)
	}
	return Batch{Epoch: r.epoch, First: h.last, Last: h.last, Raw: raw, Gap: true}, nil
}

// offer notes that a sink is given the Gap of a hole, which from now on stays as it is.
func (j *Journal) offer(h hole) hole {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.holes {
		o := &j.holes[i]
		if o.ordinal == h.ordinal && o.sink == h.sink && o.first <= h.first && h.first <= o.last {
			o.offered = true
			h.last, h.to = max(h.last, o.last), max(h.to, o.to)
		}
	}
	return h
}

// stale says that a hole which nobody comes upon any more can be forgotten: a sink may go back a little.
func (h hole) stale(now time.Time) bool { return h.noted < now.Add(-slack).UnixNano() }
