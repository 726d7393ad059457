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
	epochs   []run // that hold, or held, records
	next     uint64
	cursors  map[string]place
	holes    holes
	aside    map[string]asideSum
	orphaned bool
	previous Previous
}

// mustHave are the buckets that every file has had, mayHave those that came later.
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
	for _, name := range mustHave() {
		if tx.Bucket([]byte(name)) == nil {
			return loaded{}, fmt.Errorf("%w: no bucket %s", errDamaged, name)
		}
	}
	if v := bucket(tx, nameMeta).Get([]byte(keyFormat)); v != nil && (len(v) != 1 || v[0] != format) {
		return loaded{}, fmt.Errorf("%w: format %x, this version knows %d", errDamaged, v, format)
	}
	l := loaded{next: 1, cursors: map[string]place{}}
	if err := l.readEpochs(tx); err != nil {
		return loaded{}, err
	}
	if err := l.readHoles(tx); err != nil {
		return loaded{}, err
	}
	if err := l.readBatches(tx); err != nil {
		return loaded{}, err
	}
	if err := l.readAside(tx); err != nil {
		return loaded{}, err
	}
	err := bucket(tx, nameCursors).ForEach(func(name, v []byte) error {
		at, err := parsePlace(v)
		l.cursors[string(name)] = at
		if err == nil && !l.exists(at) {
			err = fmt.Errorf("%w: the place of %.64q is %d/%d", errDamaged, name, at.ordinal, at.sequence)
		}
		return err
	})
	l.orphaned = len(l.epochs) > 0 && bucket(tx, nameMeta).Get([]byte(keyOrphans)) != nil
	l.previous.Clean = bucket(tx, nameMeta).Get([]byte(keyOpen)) == nil
	return l, err
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
		row, err := parseEpochRow(v)
		if err != nil {
			return err
		}
		ordinal := binary.BigEndian.Uint64(k)
		l.next = ordinal + 1
		if row.last == 0 {
			return nil
		}
		l.epochs = append(l.epochs, run{ordinal: ordinal, epoch: row.epoch, kept: row.last + 1, last: row.last})
		l.previous = Previous{Epoch: row.epoch, Last: row.last, LastAppend: time.Unix(0, row.time)}
		return nil
	})
}

// readBatches finds the first batch kept of every epoch and checks that what follows it is gap-free.
func (l *loaded) readBatches(tx *bolt.Tx) error {
	i, expect := -1, place{}
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
			for i++; i < len(l.epochs) && l.epochs[i].ordinal < at.ordinal; i++ {
			}
			if i == len(l.epochs) || l.epochs[i].ordinal != at.ordinal {
				return fmt.Errorf("%w: batch of unknown epoch %d", errDamaged, at.ordinal)
			}
			l.epochs[i].kept, expect = at.sequence, at
		}
		if at != expect && l.holes.cover(at.ordinal, expect.sequence, at.sequence) {
			expect = at
		}
		if at != expect || h.last < at.sequence || h.last > l.epochs[i].last {
			return fmt.Errorf("%w: batch %d..%d where %d was due", errDamaged, at.sequence, h.last, expect.sequence)
		}
		expect.sequence = h.last + 1
		return nil
	})
	return err
}

func (l *loaded) readHoles(tx *bolt.Tx) error {
	b := bucket(tx, nameHoles)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		h, err := parseHole(k, v)
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
	if err := bucket(tx, nameEpochs).Put(ordinalKey(l.next), epochRow{epoch: epoch}.encode()); err != nil {
		return fmt.Errorf("store the epoch: %w", err)
	}
	if err := bucket(tx, nameMeta).Put([]byte(keyFormat), []byte{format}); err != nil {
		return fmt.Errorf("store the format: %w", err)
	}
	return bucket(tx, nameMeta).Put([]byte(keyOpen), []byte{1})
}
