package journal

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// envelope bounds what a batch takes beside its records: host id, epoch, two sequences, previous hash, root.
const envelope = 2*(16+2) + 2*(10+1) + 2*(32+2)

// sealed is one batch ready to be written.
type sealed struct {
	first, last uint64
	raw         []byte
}

// Append numbers the records, cuts them into batches, and makes batches and marks durable in one commit. When it returns
// nil all of it survives a power cut and is ready for the sinks; otherwise nothing of it was taken, and the same call may
// be made again, unless the error is [ErrBroken].
//
// The records belong to the journal until Append returns: it sets their Sequence. first and last are the sequences
// given, both 0 when there were no records; marks alone are committed all the same.
//
// Errors: [ErrTooLarge] names the record, to be left out by the caller; [ErrBroken]; [ErrClosed]; a *[DiskError], after
// which the same call may be made until it succeeds.
func (j *Journal) Append(records []*wire.Record, marks ...Mark) (first, last uint64, err error) {
	j.appending.Lock()
	defer j.appending.Unlock()
	current, err := j.current()
	if err != nil {
		return 0, 0, err
	}
	batches, chain, err := j.seal(current, records, nil)
	if err != nil {
		return 0, 0, err
	}
	last = current.last + uint64(len(records))
	err = j.grow(sizeOf(batches), func(tx *bolt.Tx) error {
		if len(records) > 0 {
			row := epochRow{epoch: current.epoch, last: last, time: j.now().UnixNano(), chain: chain}
			if err := j.write(tx, current.ordinal, row, batches); err != nil {
				return err
			}
		}
		return writeMarks(tx, marks)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("append %d records: %w", len(records), err)
	}
	if len(records) == 0 {
		return 0, 0, nil
	}
	j.chain = chain
	j.publish(last)
	return current.last + 1, last, nil
}

func sizeOf(batches []sealed) (n int64) {
	for _, b := range batches {
		n += int64(len(b.raw) + batchHeaderSize)
	}
	return n
}

// current is this run's epoch as it stands, or why nothing can be appended to it.
func (j *Journal) current() (run, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return run{}, ErrClosed
	}
	return j.epochs[len(j.epochs)-1], j.broken
}

// publish lets readers see what was committed.
func (j *Journal) publish(last uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.epochs[len(j.epochs)-1].last = last
	close(j.wake)
	j.wake = make(chan struct{})
}

// seal numbers and cuts records into batches, each chained to the one before. counts says how many go into each; nil: as
// many as fit.
func (j *Journal) seal(current run, records []*wire.Record, counts []int) ([]sealed, [32]byte, error) {
	chain := j.chain
	var batches []sealed
	next := current.last + 1
	for i, r := range records {
		r.Sequence = next + uint64(i)
	}
	for len(records) > 0 {
		n := 0
		if counts != nil {
			n, counts = counts[0], counts[1:]
		} else {
			n = cut(records)
		}
		if n == 0 {
			return nil, chain, fmt.Errorf("append record %d of %d bytes: %w", records[0].Sequence-next, proto.Size(records[0]), ErrTooLarge)
		}
		b := &wire.Batch{
			HostId: j.hostID[:], Epoch: current.epoch[:],
			First: records[0].Sequence, Last: records[n-1].Sequence, Records: records[:n],
		}
		chain = sdk.Seal(b, chain)
		raw, err := proto.Marshal(b)
		if err != nil {
			return nil, chain, fmt.Errorf("encode batch %d..%d: %w", b.First, b.Last, err)
		}
		batches = append(batches, sealed{b.First, b.Last, raw})
		records = records[n:]
	}
	return batches, chain, nil
}

// cut says how many of the records fit one batch; 0 when the first alone does not.
func cut(records []*wire.Record) int {
	size := envelope
	for i, r := range records {
		if i == wire.MaxBatchRecords {
			return i
		}
		size += 1 + protowire.SizeBytes(proto.Size(r)) // tag of field 5, length, content
		if size > wire.MaxBatchBytes {
			return i
		}
	}
	return len(records)
}

// write stores batches and the state of their epoch.
func (j *Journal) write(tx *bolt.Tx, ordinal uint64, row epochRow, batches []sealed) error {
	at := j.now()
	b := bucket(tx, nameBatches)
	b.FillPercent = 0.9 // keys only ever grow
	for _, s := range batches {
		if err := b.Put(place{ordinal, s.first}.key(), encodeBatch(s.last, at, s.raw)); err != nil {
			return fmt.Errorf("store batch %d..%d: %w", s.first, s.last, err)
		}
	}
	if err := putSealed(tx, nameEpochs, ordinalKey(ordinal), row.encode()); err != nil {
		return fmt.Errorf("store the epoch: %w", err)
	}
	return nil
}

func writeMarks(tx *bolt.Tx, marks []Mark) error {
	for _, m := range marks {
		var err error
		if m.Value == nil {
			err = bucket(tx, nameMarks).Delete([]byte(m.Key))
		} else {
			err = putSealed(tx, nameMarks, []byte(m.Key), m.Value)
		}
		if err != nil {
			return fmt.Errorf("store mark %q: %w", m.Key, err)
		}
	}
	return nil
}
