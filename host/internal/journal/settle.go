package journal

import (
	"bytes"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxTail bounds by how much the list of epochs may know of more records than there are batches: beyond that it is the
// list that is damaged.
const maxTail = 1 << 32

// settleEpochs makes the ends of epochs agree with their batches, and leaves out rows that cannot be.
func (s *saved) settleEpochs() {
	s.separate()
	ends := map[uint64]uint64{}
	for at, b := range s.batches {
		ends[at.ordinal] = max(ends[at.ordinal], b.last)
	}
	for ordinal, row := range s.epochs {
		if ordinal > maxTail {
			delete(s.epochs, ordinal)
			continue
		}
		if row.last > ends[ordinal]+maxTail {
			row.last = 0
		}
		row.last = max(row.last, ends[ordinal])
		s.epochs[ordinal] = row
	}
	maps.DeleteFunc(s.batches, func(at place, _ savedBatch) bool { return at.ordinal > maxTail })
}

// separate leaves every epoch one ordinal, the one with most of its batches: others come from damaged keys.
func (s *saved) separate() {
	count, best := map[uint64]int{}, map[sdk.Epoch]uint64{}
	for at := range s.batches {
		count[at.ordinal]++
	}
	for _, ordinal := range slices.Sorted(maps.Keys(s.epochs)) {
		epoch := s.epochs[ordinal].epoch
		if known, ok := best[epoch]; !ok || count[ordinal] > count[known] {
			best[epoch] = ordinal
		}
	}
	maps.DeleteFunc(s.epochs, func(ordinal uint64, row epochRow) bool { return best[row.epoch] != ordinal })
	maps.DeleteFunc(s.batches, func(at place, _ savedBatch) bool { _, known := s.epochs[at.ordinal]; return !known })
}

// settleCursors takes the places of sinks; of several for one, the furthest. A sink whose place is not there gets everything
// again.
func (s *saved) settleCursors() {
	for _, p := range s.rows.good[nameCursors] {
		stands, err := parseStanding(p.value)
		if err != nil || len(p.key) == 0 || len(p.key) > maxSinkName || p.stray && !s.rows.lost(nameCursors) {
			continue
		}
		at := stands.at
		row, known := s.epochs[at.ordinal]
		switch {
		case !s.rows.sealed && (!known || at.sequence > row.last):
			s.rows.bad[nameCursors]++
			continue
		case known && at.sequence > row.last && at.sequence < row.last+maxTail: // the list has lost its newest state
			row.last = at.sequence
			s.epochs[at.ordinal] = row
		}
		if before, ok := s.cursors[string(p.key)]; !ok || before.at.before(at) {
			s.cursors[string(p.key)] = stands
		}
	}
	newest, counted := s.rows.state()
	s.from = newest.from
	s.orphans = len(s.cursors) == 0 || s.rows.lost(nameCursors) || newest.orphaned ||
		s.rows.sealed && !counted
	if s.orphans {
		s.say("the place of a sink is not known: one that is not among %q gets everything again", slices.Sorted(maps.Keys(s.cursors)))
	}
}

// settleEnds notes the epochs of which nobody knows how far they went: the newest, when its state may be an old one, and
// those that only batches tell of.
func (s *saved) settleEnds() {
	newest := slices.Max(slices.Collect(maps.Keys(s.epochs)))
	for ordinal, row := range s.epochs {
		if s.listed[ordinal] && (ordinal != newest || !s.rows.lost(nameEpochs)) {
			continue
		}
		row.last++
		s.epochs[ordinal] = row
		s.holes = append(s.holes, hole{ordinal: ordinal, first: row.last, last: row.last, cause: CauseUnknown,
			from: row.time, to: row.time, noted: row.time})
		s.say("what followed record %d of %v is not known", row.last-1, row.epoch)
	}
}

// settleHoles takes over the holes there are. One may tell of records that the list of epochs no longer does.
func (s *saved) settleHoles() {
	for _, p := range s.rows.good[nameHoles] {
		h, err := parseHole(p.key, p.value)
		row, known := s.epochs[h.ordinal]
		if err != nil || !known || h.last > row.last+maxTail || p.stray && !s.rows.lost(nameHoles) {
			continue
		}
		row.last = max(row.last, h.last)
		s.epochs[h.ordinal] = row
		s.holes = append(s.holes, h)
	}
}

// settlePlain takes over what is copied as it is. An old mark would be a lie, so that a loss takes all.
func (s *saved) settlePlain() {
	for _, name := range []string{nameMarks, nameAside, nameRetries} {
		if n := s.rows.bad[name]; n > 0 || s.rows.lost(name) {
			s.say("%s: entries are lost", name)
		}
		if name == nameMarks && s.rows.gone(name) {
			continue
		}
		taken := map[string]bool{}
		for _, p := range s.rows.good[name] {
			if taken[string(p.key)] || p.stray && (name == nameMarks || !s.rows.lost(name)) {
				continue
			}
			taken[string(p.key)] = true
			s.plain = append(s.plain, p)
		}
	}
}

// begin is the place up to which nothing is owed to anybody, but what holes tell.
func (s *saved) begin() place {
	limit := place{ordinal: ^uint64(0)}
	for _, stands := range s.cursors {
		if stands.at.before(limit) {
			limit = stands.at
		}
	}
	if !s.orphans {
		return limit
	}
	if s.from.sequence > 0 && !s.rows.lost(nameHoles) {
		if from := (place{s.from.ordinal, s.from.sequence - 1}); from.before(limit) {
			limit = from
		}
		return limit
	}
	for at := range s.batches {
		limit.ordinal = min(limit.ordinal, at.ordinal)
	}
	for ordinal, row := range s.epochs {
		if len(s.batches) == 0 && row.last > 0 {
			limit.ordinal = ordinal
		}
	}
	return place{ordinal: limit.ordinal}
}

// settleBatches leaves out old batches that everybody has, and those that overlap, and makes holes of all that is missing
// after the first that is kept.
func (s *saved) settleBatches() {
	start, kept := s.begin(), map[uint64][]place{}
	end := map[uint64]uint64{}
	for _, p := range s.order() {
		b := s.batches[p]
		if b.old && !start.before(place{p.ordinal, b.last}) || p.sequence <= end[p.ordinal] {
			delete(s.batches, p)
			continue
		}
		end[p.ordinal] = b.last
		kept[p.ordinal] = append(kept[p.ordinal], p)
	}
	if all := s.order(); len(all) > 0 && all[0].before(place{start.ordinal, start.sequence + 1}) {
		start = place{all[0].ordinal, all[0].sequence - 1}
	}
	for ordinal, row := range s.epochs {
		have := uint64(0)
		switch {
		case ordinal < start.ordinal:
			continue
		case ordinal == start.ordinal:
			have = start.sequence
		}
		for _, p := range kept[ordinal] {
			s.miss(ordinal, have+1, p.sequence-1, s.batches[p].time)
			have = s.batches[p].last
		}
		s.miss(ordinal, have+1, row.last, row.time)
	}
}

// order lists the batches from the oldest to the newest.
func (s *saved) order() []place {
	return slices.SortedFunc(maps.Keys(s.batches), func(a, b place) int { return bytes.Compare(a.key(), b.key()) })
}

// miss notes a hole where holes for all leave something out.
func (s *saved) miss(ordinal, first, last uint64, time int64) {
	for first <= last {
		h, ok := s.holes.next("", ordinal, first-1)
		if ok && h.first <= first {
			first = h.last + 1
			continue
		}
		end := last
		if ok {
			end = min(last, h.first-1)
		}
		s.holes = append(s.holes, hole{ordinal: ordinal, first: first, last: end, cause: CauseDamaged, from: time, to: time, noted: time})
		first = end + 1
	}
}

// settleRetries leaves out what stands for batches that are gone. Batches that stand for a retry which is gone itself are
// holes: to their sink they would be nothing.
func (s *saved) settleRetries() {
	retried := map[place]bool{}
	s.plain = slices.DeleteFunc(s.plain, func(p pair) bool {
		if p.bucket != nameRetries {
			return false
		}
		at, err := parsePlace(p.key[:min(len(p.key), 16)])
		_, known := s.batches[at]
		retried[at] = retried[at] || err == nil && known
		return err != nil || !known
	})
	if _, counted := s.rows.state(); !s.rows.lost(nameRetries) && (counted || !s.rows.sealed) {
		return
	}
	for at, b := range s.batches {
		if !retried[at] && s.hollow(b) {
			s.holes = append(s.holes, hole{ordinal: at.ordinal, first: at.sequence, last: b.last, cause: CauseDamaged,
				from: b.time, to: b.time, noted: b.time})
		}
	}
}

// hollow tells whether a batch has records without a kind.
func (s *saved) hollow(b savedBatch) bool {
	raw, batch := make([]byte, b.size), new(wire.Batch)
	if _, err := s.file.ReadAt(raw, b.at); err != nil || proto.Unmarshal(raw, batch) != nil {
		return false
	}
	return len(batch.GetRecords()) > 0 && batch.GetRecords()[0].GetKind() == nil
}
