package journal

import (
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Retry puts everything that was set aside for the sink in line again, durably, and tells how many records that is. They
// get new numbers at the end of the current epoch: a sink that goes by its watermark would take their old numbers for
// records it has. To all other sinks, and in the chain of hashes, the same numbers are records without a kind, which a
// sink acknowledges and skips.
//
// Errors: [ErrNoSink], and those of [Journal.Append]; then nothing has changed.
func (j *Journal) Retry(sink string) (records int, err error) {
	j.appending.Lock()
	defer j.appending.Unlock()
	current, err := j.current()
	if err != nil {
		return 0, err
	}
	aside, err := j.Aside(sink)
	if err != nil || len(aside) == 0 {
		return 0, err
	}
	if !slices.Contains(j.Sinks(), sink) {
		return 0, fmt.Errorf("retry for %.64q: %w", sink, ErrNoSink)
	}
	r, err := j.retrial(current, aside)
	if err != nil {
		return 0, err
	}
	err = j.grow(r.size, func(tx *bolt.Tx) error {
		row := epochRow{epoch: current.epoch, last: r.last, time: j.now().UnixNano(), chain: r.chain}
		if err := j.write(tx, current.ordinal, row, r.batches); err != nil {
			return err
		}
		for i, b := range r.batches {
			key := append(place{current.ordinal, b.first}.key(), sink...)
			if err := putSealed(tx, nameRetries, key, r.overlays[i]); err != nil {
				return fmt.Errorf("store a retry: %w", err)
			}
		}
		return deletePrefix(bucket(tx, nameAside), asidePrefix(sink))
	})
	if err != nil {
		return 0, fmt.Errorf("retry what is set aside for %s: %w", sink, err)
	}
	j.chain = r.chain
	j.mu.Lock()
	j.aside[sink] = asideSum{dropped: j.aside[sink].dropped}
	j.mu.Unlock()
	j.publish(r.last)
	return int(r.last - current.last), nil
}

// retrial is what a Retry writes.
type retrial struct {
	batches  []sealed // for everybody
	overlays [][]byte // what the sink gets in the place of each
	chain    [32]byte
	last     uint64
	size     int64
}

func (j *Journal) retrial(current run, aside []SetAside) (r retrial, err error) {
	own, empty := renumber(current, aside)
	if r.batches, r.chain, err = j.seal(current, empty, cutAll(own)); err != nil {
		return r, err
	}
	r.last = current.last + uint64(len(own))
	for _, b := range r.batches {
		raw, err := overlay(b, own[b.first-current.last-1:b.last-current.last])
		if err != nil {
			return r, err
		}
		r.overlays = append(r.overlays, raw)
		r.size += int64(len(b.raw) + len(raw))
	}
	return r, nil
}

// renumber gives the records set aside numbers after the current end, and as many records without a kind.
func renumber(current run, aside []SetAside) (own, empty []*wire.Record) {
	for _, s := range aside {
		for _, r := range s.Records {
			r.Sequence = current.last + 1 + uint64(len(own))
			own, empty = append(own, r), append(empty, &wire.Record{Sequence: r.Sequence})
		}
	}
	return own, empty
}

// cutAll says, batch by batch, how many records go into it.
func cutAll(records []*wire.Record) (counts []int) {
	for len(records) > 0 {
		n := max(1, cut(records)) // each was in a batch before
		counts, records = append(counts, n), records[n:]
	}
	return counts
}

// overlay is a batch as the one sink gets it that the records are for.
func overlay(b sealed, own []*wire.Record) ([]byte, error) {
	var batch wire.Batch
	if err := proto.Unmarshal(b.raw, &batch); err != nil {
		return nil, fmt.Errorf("decode a batch: %w", err)
	}
	batch.Records, batch.Previous, batch.Root = own, nil, nil // it is not what the chain is about
	raw, err := proto.Marshal(&batch)
	if err != nil {
		return nil, fmt.Errorf("encode a retry: %w", err)
	}
	return raw, nil
}
