package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picosnitch/picosnitch/sdk"
)

// saved is what of a damaged file is good.
type saved struct {
	file    io.ReaderAt
	hostID  [16]byte
	rows    rows
	found   []foundBatch
	epochs  map[uint64]epochRow // by ordinal
	listed  map[uint64]bool     // ordinals that the list of epochs had
	batches map[place]savedBatch
	cursors map[string]standing
	plain   []pair // of buckets that are copied as they are
	holes   holes
	from    place    // as in state; zero: not known
	orphans bool     // nobody knows what all the sinks have
	unknown []string // for [Recovered]
}

// foundBatch is a batch that proves good, and what it says of itself.
type foundBatch struct {
	says  envelopeFields
	at    place // where it lay
	saved savedBatch
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
	s := &saved{file: f, hostID: o.HostID, epochs: map[uint64]epochRow{}, listed: map[uint64]bool{},
		batches: map[place]savedBatch{}, cursors: map[string]standing{}}
	if info, err := f.Stat(); err == nil {
		s.survey(f, info.Size())
	}
	if len(s.epochs) == 0 {
		s.say("nothing in it can be read: what the sinks lacked is lost")
		recovered, err := setAside(path, s.cause(cause), o.Now())
		if err != nil {
			return nil, err
		}
		recovered.Unknown = s.unknown
		return recovered, prune(path)
	}
	fresh := path + ".salvage"
	if err := s.build(fresh, o.Now()); err != nil {
		if noSpace(err) { // the damaged file stays, for the next try
			_ = os.Remove(fresh)
			return nil, &DiskError{Since: o.Now(), Cause: fmt.Errorf("save what is good of %s: %w", path, err)}
		}
		err = errors.Join(fmt.Errorf("%w; save what is good: %w", cause, err), os.Remove(fresh))
		return setAside(path, err, o.Now())
	}
	recovered, err := exchange(path, fresh, s.cause(cause), o.Now())
	if err != nil {
		return nil, err
	}
	recovered.Batches, recovered.Unknown = len(s.batches), s.unknown
	return recovered, nil
}

// say notes what is not known.
func (s *saved) say(format string, args ...any) {
	s.unknown = append(s.unknown, fmt.Sprintf(format, args...))
}

// cause adds what is not known to why the file was set aside.
func (s *saved) cause(cause error) error {
	for _, text := range s.unknown {
		cause = fmt.Errorf("%w; %s", cause, text)
	}
	return cause
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
	s.rows = rows{good: map[string][]pair{}, bad: map[string]int{}}
	s.rows.wreck = survey(f, size, func(p pair) {
		isBatch := (p.bucket == nameBatches || p.bucket == "") && s.batch(p)
		if !isBatch && p.bucket != nameBatches {
			s.rows.add(p)
		}
	})
	s.rows.sort()
	for _, p := range s.rows.good[nameEpochs] {
		s.epoch(p)
	}
	s.place()
	s.settleEpochs()
	if len(s.epochs) == 0 {
		return // nobody could be told of anything
	}
	s.settleCursors()
	s.settleHoles()
	s.settleEnds()
	s.settlePlain()
	s.settleBatches()
	s.settleRetries()
}

// batch takes a batch whose checksum is right and which says itself that it lies where it should.
func (s *saved) batch(p pair) bool {
	at, err := parsePlace(p.key)
	if err != nil {
		return false
	}
	h, raw, err := parseBatch(p.value)
	if err != nil || checksum(raw) != h.sum {
		return false
	}
	e, ok := envelopeOf(raw)
	if !ok || e.host != s.hostID || e.first == 0 || e.last < e.first {
		return false
	}
	s.found = append(s.found, foundBatch{e, at,
		savedBatch{last: e.last, time: h.time, at: p.at + batchHeaderSize, size: len(raw), old: p.stray}})
	return true
}

// place puts batches where they belong: into the epoch that they name, whatever their key says; if no list has it, where
// they lay.
func (s *saved) place() {
	ordinals := map[sdk.Epoch]uint64{}
	for ordinal, row := range s.epochs {
		s.listed[ordinal] = true
		ordinals[row.epoch] = ordinal
	}
	for _, f := range s.found {
		at := place{f.at.ordinal, f.says.first}
		if ordinal, ok := ordinals[f.says.epoch]; ok {
			at.ordinal = ordinal
		} else if s.listed[at.ordinal] || f.at != at {
			continue
		}
		if known, ok := s.epochs[at.ordinal]; !ok {
			s.epochs[at.ordinal] = epochRow{epoch: f.says.epoch}
		} else if known.epoch != f.says.epoch {
			continue // the first to come is the better one
		}
		if before, ok := s.batches[at]; !ok || before.old && !f.saved.old {
			s.batches[at] = f.saved
		}
	}
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
