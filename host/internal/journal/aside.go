package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Bounds of what is set aside for one sink; the oldest goes first.
const (
	maxAside      = 1000
	maxAsideBytes = 16 << 20
)

// maxReason bounds the reason that is kept, in bytes.
const maxReason = 1024

// SetAside is a part of a batch that a sink could not take. Records are as they were journaled, and belong to the caller.
type SetAside struct {
	Time    time.Time
	Reason  string
	Epoch   sdk.Epoch
	Records []*wire.Record // in order, not always without holes
}

// asideSum is what is known in memory of one sink.
type asideSum struct {
	batches, records int
	bytes            int64
	dropped          uint64 // records, since Open
}

// asidePrefix begins the keys of a sink; no name has a zero byte.
func asidePrefix(sink string) []byte { return append([]byte(sink), 0) }

// SetAside keeps records that the sink cannot take, durably, until [Journal.Retry]. Those of one call lie together, and
// replace what lay there from the same first record. Errors are those of [Journal.Append]; then nothing is kept.
func (c *Cursor) SetAside(epoch sdk.Epoch, records []*wire.Record, reason string) error {
	if len(records) == 0 {
		return nil
	}
	j := c.j
	j.appending.Lock()
	defer j.appending.Unlock()
	if _, err := j.current(); err != nil {
		return err
	}
	value, err := encodeAside(epoch, records, reason, j.now())
	if err != nil {
		return err
	}
	var sum asideSum
	err = j.grow(0, func(tx *bolt.Tx) (err error) {
		key := append(asidePrefix(c.name), place{j.ordinalOf(epoch), records[0].GetSequence()}.key()...)
		if err := putSealed(tx, nameAside, key, value); err != nil {
			return err
		}
		sum, err = boundAside(tx, c.name)
		return err
	})
	if err != nil {
		return fmt.Errorf("set %d records aside for %s: %w", len(records), c.name, err)
	}
	j.mu.Lock()
	sum.dropped += j.aside[c.name].dropped
	j.aside[c.name] = sum
	j.mu.Unlock()
	return nil
}

// ordinalOf is the place of an epoch in the order of all; 0 when it is forgotten.
func (j *Journal) ordinalOf(epoch sdk.Epoch) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.epochs {
		if r.epoch == epoch {
			return r.ordinal
		}
	}
	return 0
}

// boundAside drops the oldest of a sink until the rest is within bounds, and sums up.
func boundAside(tx *bolt.Tx, sink string) (sum asideSum, err error) {
	type entry struct {
		key  []byte
		size int64
		n    int
	}
	var all []entry
	prefix, c := asidePrefix(sink), bucket(tx, nameAside).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		n, err := asideRecords(k, v)
		if err != nil {
			return sum, err
		}
		all = append(all, entry{slices.Clone(k), int64(len(k) + len(v)), n})
		sum.bytes += int64(len(k) + len(v))
	}
	for len(all) > maxAside || sum.bytes > maxAsideBytes {
		if err := bucket(tx, nameAside).Delete(all[0].key); err != nil {
			return sum, err
		}
		sum.bytes -= all[0].size
		sum.dropped += uint64(all[0].n)
		all = all[1:]
	}
	sum.batches = len(all)
	for _, e := range all {
		sum.records += e.n
	}
	return sum, nil
}

// The value in bucket aside: time 8, records 4, reason length 2, reason, encoded wire.Batch of the records alone.
const asideHeader = 8 + 4 + 2

func encodeAside(epoch sdk.Epoch, records []*wire.Record, reason string, at time.Time) ([]byte, error) {
	raw, err := proto.Marshal(&wire.Batch{Epoch: epoch[:], Records: records})
	if err != nil {
		return nil, fmt.Errorf("encode records to set aside: %w", err)
	}
	reason = reason[:min(len(reason), maxReason)]
	b := binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(records)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(reason)))
	return append(append(b, reason...), raw...), nil
}

// asideRecords tells how many records a stored value has.
func asideRecords(k, stored []byte) (int, error) {
	v, err := unseal(nameAside, k, stored)
	if err != nil {
		return 0, err
	}
	return countAside(v)
}

func countAside(v []byte) (int, error) {
	if len(v) < asideHeader {
		return 0, fmt.Errorf("%w: set aside: %d bytes", errDamaged, len(v))
	}
	return int(binary.BigEndian.Uint32(v[8:])), nil
}

func parseAside(k, stored []byte) (SetAside, error) {
	v, err := unseal(nameAside, k, stored)
	if err != nil {
		return SetAside{}, err
	}
	if _, err := countAside(v); err != nil {
		return SetAside{}, err
	}
	s := SetAside{Time: time.Unix(0, int64(binary.BigEndian.Uint64(v)))}
	n := asideHeader + int(binary.BigEndian.Uint16(v[12:]))
	if n > len(v) {
		return s, fmt.Errorf("%w: set aside: a reason of %d bytes", errDamaged, n-asideHeader)
	}
	var batch wire.Batch
	if err := proto.Unmarshal(v[n:], &batch); err != nil {
		return s, fmt.Errorf("%w: set aside: %w", errDamaged, err)
	}
	s.Reason, s.Records = string(v[asideHeader:n]), batch.Records
	copy(s.Epoch[:], batch.Epoch)
	return s, nil
}

// Aside lists what the sink could not take, oldest record first.
func (j *Journal) Aside(sink string) (all []SetAside, err error) {
	err = j.view(func(tx *bolt.Tx) error {
		prefix, c := asidePrefix(sink), bucket(tx, nameAside).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			s, err := parseAside(k, v)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what is set aside for %s: %w", sink, err)
	}
	return all, nil
}

func (l *loaded) readAside(tx *bolt.Tx) error {
	l.aside = map[string]asideSum{}
	b := bucket(tx, nameAside)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		sink, _, _ := bytes.Cut(k, []byte{0})
		content, err := l.value(nameAside, k, v)
		if err != nil {
			return err
		}
		n, err := countAside(content)
		sum := l.aside[string(sink)]
		sum.batches++
		sum.records += n
		sum.bytes += int64(len(k) + len(v))
		l.aside[string(sink)] = sum
		return err
	})
}
