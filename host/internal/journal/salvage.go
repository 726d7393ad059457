package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picosnitch/picosnitch/sdk"
)

// maxTail bounds by how much the list of epochs may know of more records than there are batches: beyond that it is the
// list that is damaged.
const maxTail = 1 << 32

// saved is what of a damaged file is good.
type saved struct {
	file    io.ReaderAt
	hostID  [16]byte
	epochs  map[uint64]epochRow // by ordinal
	batches map[place]savedBatch
	cursors map[string]place
	plain   []pair // of buckets that are copied as they are
	holes   holes
	orphans bool // nobody knows what the sinks have
}

// savedBatch is a batch with the place of its encoded form in the damaged file.
type savedBatch struct {
	last uint64
	time int64
	at   int64
	size int
	old  bool // found on a page that nothing led to
}

// salvage puts a file with what is good in the place of a damaged one, which is kept beside it. Under the journal's name
// there is always one of the two.
func salvage(path string, o Options, cause error) (*Recovered, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the damaged journal (%w): %w", cause, err)
	}
	defer f.Close()
	s := &saved{file: f, hostID: o.HostID, epochs: map[uint64]epochRow{}, batches: map[place]savedBatch{}, cursors: map[string]place{}}
	if info, err := f.Stat(); err == nil {
		s.survey(f, info.Size())
	}
	if len(s.epochs) == 0 {
		recovered, err := setAside(path, cause, o.Now())
		return recovered, errors.Join(err, prune(path))
	}
	fresh := path + ".salvage"
	if err := s.build(fresh, o.Now()); err != nil {
		err = errors.Join(err, os.Remove(fresh))
		return setAside(path, fmt.Errorf("%w; save what is good: %w", cause, err), o.Now())
	}
	recovered, err := exchange(path, fresh, cause, o.Now())
	if err != nil {
		return nil, err
	}
	recovered.Batches = len(s.batches)
	return recovered, nil
}

// exchange gives the damaged file another name, and the fresh one its place.
func exchange(path, fresh string, cause error, now time.Time) (*Recovered, error) {
	recovered := &Recovered{Path: asideName(path, now), Cause: cause}
	err := os.Link(path, recovered.Path)
	if err != nil { // a file system without hard links
		recovered, err = setAside(path, cause, now)
	}
	if err == nil {
		err = errors.Join(os.Rename(fresh, path), syncDirectory(filepath.Dir(path)), prune(path))
	}
	if err != nil {
		return nil, fmt.Errorf("set %s aside (%w): %w", path, cause, err)
	}
	return recovered, nil
}

// survey reads the file and makes what it finds fit together.
func (s *saved) survey(f io.ReaderAt, size int64) {
	var unsure []pair // cursors that may be old
	w := survey(f, size, func(p pair) {
		switch {
		case p.bucket == nameBatches || p.bucket == "":
			s.batch(p)
		case p.bucket == nameEpochs:
			s.epoch(p)
		case p.bucket == nameCursors:
			unsure = append(unsure, clone(p))
		case slices.Contains([]string{nameMarks, nameHoles, nameAside, nameRetries}, p.bucket):
			s.plain = append(s.plain, clone(p))
		}
	})
	if w.lost[nameMarks] || w.lost[""] { // an old mark would be a lie
		s.plain = slices.DeleteFunc(s.plain, func(p pair) bool { return p.bucket == nameMarks })
	}
	s.plain = slices.DeleteFunc(s.plain, func(p pair) bool { return p.bucket == nameHoles && !s.hole(p) })
	s.settleEpochs()
	for _, p := range unsure {
		s.cursor(p)
	}
	s.orphans = len(s.cursors) == 0
	s.settleBatches()
}

func clone(p pair) pair {
	p.key, p.value = bytes.Clone(p.key), bytes.Clone(p.value)
	return p
}

// batch takes a batch whose checksum is right and which says itself that it lies where it should.
func (s *saved) batch(p pair) {
	at, err := parsePlace(p.key)
	if err != nil {
		return
	}
	h, raw, err := parseBatch(p.value)
	if err != nil || checksum(raw) != h.sum {
		return
	}
	e, ok := envelopeOf(raw)
	if !ok || e.host != s.hostID || e.first != at.sequence || e.last < e.first {
		return
	}
	row, known := s.epochs[at.ordinal]
	if known && row.epoch != e.epoch {
		if p.bucket == "" || row.last > 0 && s.hasBatch(at.ordinal) {
			return // the first to come is the better one
		}
		row = epochRow{}
	}
	row.epoch = e.epoch
	s.epochs[at.ordinal] = row
	s.batches[at] = savedBatch{last: e.last, time: h.time, at: p.at + batchHeaderSize, size: len(raw), old: p.bucket == ""}
}

func (s *saved) hasBatch(ordinal uint64) bool {
	for at := range s.batches {
		if at.ordinal == ordinal {
			return true
		}
	}
	return false
}

// epoch takes a row of the list of epochs, the newest state of each.
func (s *saved) epoch(p pair) {
	row, err := parseEpochRow(p.value)
	if err != nil || len(p.key) != 8 {
		return
	}
	ordinal := binary.BigEndian.Uint64(p.key)
	known, exists := s.epochs[ordinal]
	if !exists || known.epoch == row.epoch && known.last < row.last {
		s.epochs[ordinal] = row
	}
}

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

// cursor takes the place of a sink, if there is such a place; of several, the furthest.
func (s *saved) cursor(p pair) {
	at, err := parsePlace(p.value)
	row, known := s.epochs[at.ordinal]
	if err != nil || !known || at.sequence > row.last || len(p.key) == 0 || len(p.key) > maxSinkName {
		return
	}
	if before, ok := s.cursors[string(p.key)]; !ok || before.before(at) {
		s.cursors[string(p.key)] = at
	}
}

func (s *saved) hole(p pair) bool {
	h, err := parseHole(p.key, p.value)
	if err != nil {
		return false
	}
	s.holes = append(s.holes, h)
	return true
}

// settleBatches leaves out what everybody has, and batches that overlap, and makes holes of what is missing.
func (s *saved) settleBatches() {
	limit := place{ordinal: ^uint64(0)}
	for _, at := range s.cursors {
		if at.before(limit) {
			limit = at
		}
	}
	at := map[uint64]uint64{} // ordinal -> what is accounted for
	for _, p := range s.order() {
		b := s.batches[p]
		needed := s.orphans || limit.before(place{p.ordinal, b.last})
		if b.old && !needed || p.sequence <= at[p.ordinal] {
			delete(s.batches, p)
			continue
		}
		if first := s.expected(p.ordinal, at, limit); needed && first < p.sequence && (first > 1 || !s.orphans) {
			s.miss(p.ordinal, first, p.sequence-1, b.time)
		}
		at[p.ordinal] = b.last
	}
	for ordinal, row := range s.epochs {
		if done := ordinal < limit.ordinal; done && !s.orphans || s.orphans && at[ordinal] == 0 {
			continue // everybody has it, or nobody knows who lacks it
		}
		if first := s.expected(ordinal, at, limit); first <= row.last {
			s.miss(ordinal, first, row.last, row.time)
		}
	}
}

// order lists the batches from the oldest to the newest.
func (s *saved) order() []place {
	return slices.SortedFunc(maps.Keys(s.batches), func(a, b place) int { return bytes.Compare(a.key(), b.key()) })
}

// expected is the first record of an epoch that somebody needs and nothing accounts for.
func (s *saved) expected(ordinal uint64, at map[uint64]uint64, limit place) uint64 {
	first := at[ordinal] + 1
	if !s.orphans && ordinal == limit.ordinal {
		first = max(first, limit.sequence+1)
	}
	return first
}

// miss notes a hole, unless there was one already.
func (s *saved) miss(ordinal, first, last uint64, time int64) {
	if !s.holes.cover(ordinal, first, last+1) {
		s.holes = append(s.holes, hole{ordinal: ordinal, first: first, last: last, cause: CauseDamaged, from: time, to: time, noted: time})
	}
}

// envelopeFields are what a batch says of itself.
type envelopeFields struct {
	host        [16]byte
	epoch       sdk.Epoch
	first, last uint64
}

// envelopeOf reads them without decoding the records.
func envelopeOf(raw []byte) (e envelopeFields, ok bool) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return e, false
		}
		raw = raw[n:]
		size := protowire.ConsumeFieldValue(number, kind, raw)
		if size < 0 {
			return e, false
		}
		switch {
		case number == 1 && kind == protowire.BytesType:
			v, _ := protowire.ConsumeBytes(raw)
			ok = copy(e.host[:], v) == len(e.host)
		case number == 2 && kind == protowire.BytesType:
			v, _ := protowire.ConsumeBytes(raw)
			copy(e.epoch[:], v)
		case number == 3 && kind == protowire.VarintType:
			e.first, _ = protowire.ConsumeVarint(raw)
		case number == 4 && kind == protowire.VarintType:
			e.last, _ = protowire.ConsumeVarint(raw)
		}
		raw = raw[size:]
	}
	return e, ok
}
