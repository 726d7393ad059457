package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/picosnitch/picosnitch/sdk"
)

// format is the number of this layout and of the codec of its batches (wire.CodecProto). Files of formatPlain, whose small
// values have no checksums, are converted.
const (
	format      = 2
	formatPlain = 1
)

// Buckets and keys of the package comment.
const (
	nameMeta    = "meta"
	nameEpochs  = "epochs"
	nameBatches = "batches"
	nameCursors = "cursors"
	nameMarks   = "marks"
	nameHoles   = "holes"
	nameAside   = "aside"
	nameRetries = "retries"
	keyFormat   = "format"
	keyState    = "state"
)

// Keys of bucket meta in format 1.
const (
	oldKeyOpen    = "open"
	oldKeyOrphans = "orphans"
)

// errDamaged marks content that this package cannot have written.
var errDamaged = errors.New("damaged content")

// place is a position in the order of all records: the record itself, or the point right after it.
type place struct {
	ordinal  uint64 // of the epoch
	sequence uint64
}

func (p place) before(q place) bool {
	return p.ordinal < q.ordinal || p.ordinal == q.ordinal && p.sequence < q.sequence
}

// key is how a place is stored: bytes that sort as places do.
func (p place) key() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.ordinal), p.sequence)
}

func parsePlace(b []byte) (place, error) {
	if len(b) != 16 {
		return place{}, fmt.Errorf("%w: place of %d bytes", errDamaged, len(b))
	}
	return place{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

// standing is the value in bucket cursors; the key is the sink's name.
type standing struct {
	at    place // what the sink has
	begin place // what stands before it was there before the sink; zero if that is not known any more
}

func (s standing) encode() []byte { return append(s.at.key(), s.begin.key()...) }

// parseStanding reads what encode wrote, and what was written before it said where a sink began.
func parseStanding(b []byte) (s standing, err error) {
	if len(b) == 32 {
		if s.begin, err = parsePlace(b[16:]); err != nil {
			return s, err
		}
		b = b[:16]
	}
	s.at, err = parsePlace(b)
	return s, err
}

// epochRow is the value in bucket epochs; the key is the ordinal.
type epochRow struct {
	epoch sdk.Epoch
	last  uint64
	time  int64 // of the last append, ns UTC
	chain [32]byte
}

const epochRowSize = 16 + 8 + 8 + 32

func (e epochRow) encode() []byte {
	b := append([]byte{}, e.epoch[:]...)
	b = binary.BigEndian.AppendUint64(b, e.last)
	b = binary.BigEndian.AppendUint64(b, uint64(e.time))
	return append(b, e.chain[:]...)
}

// readEpochRow is parseEpochRow for a row as it is stored.
func readEpochRow(k, stored []byte) (epochRow, error) {
	b, err := unseal(nameEpochs, k, stored)
	if err != nil {
		return epochRow{}, err
	}
	return parseEpochRow(b)
}

func parseEpochRow(b []byte) (epochRow, error) {
	if len(b) != epochRowSize {
		return epochRow{}, fmt.Errorf("%w: epoch of %d bytes", errDamaged, len(b))
	}
	e := epochRow{
		epoch: sdk.Epoch(b[:16]),
		last:  binary.BigEndian.Uint64(b[16:]),
		time:  int64(binary.BigEndian.Uint64(b[24:])),
	}
	copy(e.chain[:], b[32:])
	return e, nil
}

// batchHeader stands before the encoded batch in bucket batches; the key is the place of its first record.
type batchHeader struct {
	last uint64
	time int64 // of the append, ns UTC
	sum  uint32
}

const batchHeaderSize = 8 + 8 + 4

func encodeBatch(last uint64, at time.Time, raw []byte) []byte {
	b := make([]byte, 0, batchHeaderSize+len(raw))
	b = binary.BigEndian.AppendUint64(b, last)
	b = binary.BigEndian.AppendUint64(b, uint64(at.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, checksum(raw))
	return append(b, raw...)
}

// parseBatch splits a stored batch. raw is a part of b, its checksum not yet compared: that would read every page.
func parseBatch(b []byte) (h batchHeader, raw []byte, err error) {
	if len(b) < batchHeaderSize {
		return h, nil, fmt.Errorf("%w: batch of %d bytes", errDamaged, len(b))
	}
	h.last = binary.BigEndian.Uint64(b)
	h.time = int64(binary.BigEndian.Uint64(b[8:]))
	h.sum = binary.BigEndian.Uint32(b[16:])
	return h, b[batchHeaderSize:], nil
}

// checksum is CRC-32C: bbolt has none for its pages, so that a flipped bit would reach a sink as a record.
func checksum(raw []byte) uint32 { return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)) }

func ordinalKey(ordinal uint64) []byte { return binary.BigEndian.AppendUint64(nil, ordinal) }

// bucket returns one of those of the package comment, which [inspect] has made sure of.
func bucket(tx *bolt.Tx, name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }
