package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// maxEpochs bounds the list of epochs whose records are all delivered. A sink names at most 64.
const maxEpochs = 4096

// loaded is what a start finds in the file.
type loaded struct {
	format   byte  // of the file; 0: it is new
	state    state // in format 2
	epochs   []run // that hold, or held, records
	next     uint64
	cursors  map[string]standing
	holes    holes
	aside    map[string]asideSum
	orphaned bool
	previous lastRun
}

// mustHave are the buckets that every file has had, mayHave those that some files of format 1 lack.
func mustHave() []string {
	return []string{nameMeta, nameEpochs, nameBatches, nameCursors, nameMarks}
}

func mayHave() []string { return []string{nameHoles, nameAside, nameRetries} }

// create makes the buckets of a new file.
func create(tx *bolt.Tx) error {
	for _, name := range append(mustHave(), mayHave()...) {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return nil
}

// inspect reads everything that is kept in memory and checks that it fits together.
func inspect(tx *bolt.Tx) (loaded, error) {
	l := loaded{next: 1, cursors: map[string]standing{}}
	for _, read := range []func(*bolt.Tx) error{
		l.readMeta, l.readEpochs, l.readHoles, l.readBatches, l.readAside, l.readCursors, l.readPlain, l.readState,
	} {
		if err := read(tx); err != nil {
			return loaded{}, err
		}
	}
	return l, nil
}

// readMeta finds out what kind of file this is, and whether it is complete.
func (l *loaded) readMeta(tx *bolt.Tx) error {
	for _, name := range mustHave() {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: no bucket %s", errDamaged, name)
		}
	}
	k, _ := bucket(tx, nameEpochs).Cursor().First()
	switch v := bucket(tx, nameMeta).Get([]byte(keyFormat)); {
	case v == nil && k == nil:
		return nil
	case len(v) != 1 || v[0] != format && v[0] != formatPlain:
		return fmt.Errorf("%w: format %x, this version knows %d and %d", errDamaged, v, formatPlain, format)
	default:
		l.format = v[0]
	}
	for _, name := range mayHave() {
		if l.format == format && tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: no bucket %s", errDamaged, name)
		}
	}
	return nil
}

// value is the content of a small value.
func (l *loaded) value(name string, k, stored []byte) ([]byte, error) {
	if l.format == formatPlain {
		return stored, nil
	}
	return unseal(name, k, stored)
}

func (l *loaded) readCursors(tx *bolt.Tx) error {
	return bucket(tx, nameCursors).ForEach(func(name, stored []byte) error {
		v, err := l.value(nameCursors, name, stored)
		if err != nil {
			return err
		}
		s, err := parseStanding(v)
		l.cursors[string(name)] = s
		if err == nil && !l.exists(s.at) {
			err = fmt.Errorf("%w: the place of %.64q is %d/%d", errDamaged, name, s.at.ordinal, s.at.sequence)
		}
		return err
	})
}

// readPlain checks what is not kept in memory.
func (l *loaded) readPlain(tx *bolt.Tx) error {
	for _, name := range []string{nameMarks, nameRetries} {
		b := tx.Bucket([]byte(name))
		if b == nil {
			continue
		}
		err := b.ForEach(func(k, stored []byte) error {
			_, err := l.value(name, k, stored)
			return err
		})
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", name, err)
		}
	}
	return nil
}

// readState compares everything with what the last commit said that it must be.
func (l *loaded) readState(tx *bolt.Tx) (err error) {
	switch m := bucket(tx, nameMeta); l.format {
	case formatPlain:
		l.orphaned = len(l.epochs) > 0 && m.Get([]byte(oldKeyOrphans)) != nil
		l.previous.clean = m.Get([]byte(oldKeyOpen)) == nil
		return nil
	case format:
		if l.state, err = readState(m.Get([]byte(keyState))); err != nil {
			return err
		}
	default:
		l.previous.clean = true
		return nil
	}
	l.orphaned, l.previous.clean = len(l.epochs) > 0 && l.state.orphaned, !l.state.open
	now, err := countState(tx)
	now.open, now.orphaned = l.state.open, l.state.orphaned
	if err == nil && now != l.state {
		err = fmt.Errorf("%w: it holds %+v, and it should be %+v", errDamaged, now, l.state)
	}
	return err
}

// exists tells whether a sink can have come to a place.
func (l *loaded) exists(at place) bool {
	for _, r := range l.epochs {
		if r.ordinal == at.ordinal {
			return at.sequence <= r.last
		}
	}
	return at.ordinal < l.next
}

// readEpochs reads the list. Epochs without a record are passed over: no sink can name one.
func (l *loaded) readEpochs(tx *bolt.Tx) error {
	return bucket(tx, nameEpochs).ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			return fmt.Errorf("%w: ordinal of %d bytes", errDamaged, len(k))
		}
		content, err := l.value(nameEpochs, k, v)
		if err != nil {
			return err
		}
		row, err := parseEpochRow(content)
		if err != nil {
			return err
		}
		ordinal := binary.BigEndian.Uint64(k)
		l.next = ordinal + 1
		if row.last == 0 {
			return nil
		}
		l.epochs = append(l.epochs, run{ordinal: ordinal, epoch: row.epoch, kept: row.last + 1, last: row.last})
		l.previous = lastRun{epoch: row.epoch, last: row.last, append: time.Unix(0, row.time)}
		return nil
	})
}

// readBatches finds the first batch kept of every epoch and checks that what follows the very first is without gaps, to
// the end, but for holes.
func (l *loaded) readBatches(tx *bolt.Tx) error {
	i, expect := -1, uint64(0) // the epoch that is being read, and what comes next of it
	err := bucket(tx, nameBatches).ForEach(func(k, v []byte) error {
		at, err := parsePlace(k)
		if err != nil {
			return err
		}
		h, _, err := parseBatch(v)
		if err != nil {
			return err
		}
		if i < 0 || l.epochs[i].ordinal != at.ordinal {
			if i, expect, err = l.nextEpoch(i, expect, at); err != nil {
				return err
			}
			l.epochs[i].kept = at.sequence
		}
		if err := l.complete(i, expect, at.sequence); err != nil {
			return err
		}
		if h.last < at.sequence || h.last > l.epochs[i].last {
			return fmt.Errorf("%w: batch %d..%d", errDamaged, at.sequence, h.last)
		}
		expect = h.last + 1
		return nil
	})
	for ; err == nil && i >= 0 && i < len(l.epochs); i, expect = i+1, 1 {
		err = l.complete(i, expect, l.epochs[i].last+1)
	}
	return err
}

// nextEpoch goes on from an epoch to that of the first batch at a place.
func (l *loaded) nextEpoch(i int, expect uint64, at place) (int, uint64, error) {
	begun := i >= 0
	for i = max(i, 0); i < len(l.epochs) && l.epochs[i].ordinal < at.ordinal; i++ {
		if !begun {
			continue
		}
		if err := l.complete(i, expect, l.epochs[i].last+1); err != nil {
			return i, 0, err
		}
		expect = 1
	}
	if i == len(l.epochs) || l.epochs[i].ordinal != at.ordinal {
		return i, 0, fmt.Errorf("%w: batch of unknown epoch %d", errDamaged, at.ordinal)
	}
	if !begun {
		expect = at.sequence
	}
	return i, expect, nil
}

// complete checks that nothing is missing of an epoch from first up to, but not including, end.
func (l *loaded) complete(i int, first, end uint64) error {
	if first == end || first < end && l.holes.cover(l.epochs[i].ordinal, first, end) {
		return nil
	}
	return fmt.Errorf("%w: record %d of epoch %d where %d was due", errDamaged, end, l.epochs[i].ordinal, first)
}

func (l *loaded) readHoles(tx *bolt.Tx) error {
	b := bucket(tx, nameHoles)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		content, err := l.value(nameHoles, k, v)
		if err != nil {
			return err
		}
		h, err := parseHole(k, content)
		l.holes = append(l.holes, h)
		return err
	})
}

// start writes the new epoch, removes epochs that nobody can name, and notes that the journal is open.
func (l *loaded) start(tx *bolt.Tx, epoch sdk.Epoch) error {
	known := map[uint64]bool{}
	for _, r := range l.epochs[max(0, len(l.epochs)-maxEpochs):] {
		known[r.ordinal] = true
	}
	for _, r := range l.epochs {
		known[r.ordinal] = known[r.ordinal] || r.kept <= r.last
	}
	for _, h := range l.holes {
		known[h.ordinal] = true
	}
	c := bucket(tx, nameEpochs).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if !known[binary.BigEndian.Uint64(k)] {
			if err := c.Delete(); err != nil {
				return fmt.Errorf("delete an old epoch: %w", err)
			}
		}
	}
	if l.format == formatPlain {
		if err := convert(tx); err != nil {
			return err
		}
	}
	if err := putSealed(tx, nameEpochs, ordinalKey(l.next), epochRow{epoch: epoch}.encode()); err != nil {
		return fmt.Errorf("store the epoch: %w", err)
	}
	if err := bucket(tx, nameMeta).Put([]byte(keyFormat), []byte{format}); err != nil {
		return fmt.Errorf("store the format: %w", err)
	}
	return writeState(tx, true, l.orphaned)
}
