package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"
)

// Small values end with a checksum over their bucket, key and content: a flipped bit in the place or the name of a sink
// would skip records, and nobody would notice.

// sumSize is the length of that checksum.
const sumSize = 4

// sealedBuckets are those whose values have one. Batches have their own; bucket meta has one in its state.
func sealedBuckets() []string {
	return []string{nameEpochs, nameCursors, nameMarks, nameHoles, nameAside, nameRetries}
}

// seal returns value with its checksum.
func seal(bucket string, key, value []byte) []byte {
	stored := make([]byte, 0, len(value)+sumSize)
	stored = append(stored, value...)
	return binary.BigEndian.AppendUint32(stored, sealSum(bucket, key, value))
}

// unseal returns the value, a part of stored, if its checksum is right. Errors wrap errDamaged.
func unseal(bucket string, key, stored []byte) ([]byte, error) {
	n := len(stored) - sumSize
	if n < 0 || binary.BigEndian.Uint32(stored[n:]) != sealSum(bucket, key, stored[:n]) {
		return nil, fmt.Errorf("%w: value of %.80q in %s", errDamaged, key, bucket)
	}
	return stored[:n:n], nil
}

func sealSum(bucket string, key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(append([]byte(bucket), 0), table)
	sum = crc32.Update(sum, table, binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	return crc32.Update(crc32.Update(sum, table, key), table, value)
}

// putSealed stores a small value.
func putSealed(tx *bolt.Tx, name string, key, value []byte) error {
	return bucket(tx, name).Put(key, seal(name, key, value))
}

// state is the one row that says what the others must be: a page can lose rows without a trace.
type state struct {
	open     bool // the host runs, or did not stop cleanly
	orphaned bool // saved from a damaged file that did not tell what all sinks have
	cursors  uint32
	holes    uint32
	retries  uint32
	from     place // the first record kept: older ones are safe in every sink, or in holes
}

const stateSize = 1 + 3*4 + 16

func (s state) encode() []byte {
	b := []byte{0}
	if s.open {
		b[0] |= 1
	}
	if s.orphaned {
		b[0] |= 2
	}
	for _, n := range []uint32{s.cursors, s.holes, s.retries} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, s.from.key()...)
}

// readState is decodeState for the row as it is stored.
func readState(stored []byte) (s state, err error) {
	b, err := unseal(nameMeta, []byte(keyState), stored)
	if err != nil {
		return s, err
	}
	return decodeState(b)
}

func decodeState(b []byte) (s state, err error) {
	if len(b) != stateSize {
		return s, fmt.Errorf("%w: state of %d bytes", errDamaged, len(b))
	}
	s = state{
		open: b[0]&1 != 0, orphaned: b[0]&2 != 0, cursors: binary.BigEndian.Uint32(b[1:]),
		holes: binary.BigEndian.Uint32(b[5:]), retries: binary.BigEndian.Uint32(b[9:]),
	}
	s.from, err = parsePlace(b[13:])
	return s, err
}

// countState takes the state of a file in which the epochs stand.
func countState(tx *bolt.Tx) (s state, err error) {
	for name, n := range map[string]*uint32{nameCursors: &s.cursors, nameHoles: &s.holes, nameRetries: &s.retries} {
		c := bucket(tx, name).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			*n++
		}
	}
	if k, _ := bucket(tx, nameBatches).Cursor().First(); k != nil {
		s.from, err = parsePlace(k)
		return s, err
	}
	k, v := bucket(tx, nameEpochs).Cursor().Last()
	if len(k) != 8 {
		return s, fmt.Errorf("%w: no epoch", errDamaged)
	}
	row, err := readEpochRow(k, v)
	s.from = place{binary.BigEndian.Uint64(k), row.last + 1}
	return s, err
}

// writeState stores the state of the file as it is now, when it is another one.
func writeState(tx *bolt.Tx, open, orphaned bool) error {
	s, err := countState(tx)
	if err != nil {
		return err
	}
	s.open, s.orphaned = open, orphaned
	b, key := bucket(tx, nameMeta), []byte(keyState)
	stored := seal(nameMeta, key, s.encode())
	if bytes.Equal(b.Get(key), stored) {
		return nil
	}
	if err := b.Put(key, stored); err != nil {
		return fmt.Errorf("store the state: %w", err)
	}
	return nil
}

// convert makes a file of format 1, whose small values had no checksums, one of format 2.
func convert(tx *bolt.Tx) error {
	for _, name := range sealedBuckets() {
		var keys, values [][]byte
		err := bucket(tx, name).ForEach(func(k, v []byte) error {
			keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
			return nil
		})
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", name, err)
		}
		for i, k := range keys {
			if err := putSealed(tx, name, k, values[i]); err != nil {
				return fmt.Errorf("convert bucket %s: %w", name, err)
			}
		}
	}
	for _, key := range []string{oldKeyOpen, oldKeyOrphans} {
		if err := bucket(tx, nameMeta).Delete([]byte(key)); err != nil {
			return fmt.Errorf("convert bucket meta: %w", err)
		}
	}
	return nil
}
