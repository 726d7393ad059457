package sdk

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// decodeBatch decodes a request and checks everything that the contract promises to a sink.
func decodeBatch(r *wire.ApplyRequest) (*Batch, error) {
	if r.GetCodec() != wire.CodecProto {
		return nil, fmt.Errorf("codec %d: this plugin knows %d", r.GetCodec(), wire.CodecProto)
	}
	raw := r.GetBatch()
	if len(raw) > wire.MaxBatchBytes {
		return nil, fmt.Errorf("batch: %d bytes, at most %d", len(raw), wire.MaxBatchBytes)
	}
	b := &Batch{Batch: &wire.Batch{}, Raw: raw}
	if err := proto.Unmarshal(raw, b.Batch); err != nil {
		return nil, fmt.Errorf("batch: decode: %w", err)
	}
	if err := checkBatch(b.Batch); err != nil {
		return nil, err
	}
	copy(b.Epoch[:], b.Batch.GetEpoch())
	return b, nil
}

// checkBatch finds the first thing in a batch that breaks the contract.
func checkBatch(b *wire.Batch) error {
	switch count := uint64(len(b.GetRecords())); {
	case len(b.GetHostId()) != 16:
		return fmt.Errorf("batch: host_id: %d bytes, want 16", len(b.GetHostId()))
	case len(b.GetEpoch()) != 16:
		return fmt.Errorf("batch: epoch: %d bytes, want 16", len(b.GetEpoch()))
	case len(b.GetPrevious()) != 0 && len(b.GetPrevious()) != 32:
		return fmt.Errorf("batch: previous: %d bytes, want 32", len(b.GetPrevious()))
	case len(b.GetRoot()) != 0 && len(b.GetRoot()) != 32:
		return fmt.Errorf("batch: root: %d bytes, want 32", len(b.GetRoot()))
	case b.GetFirst() == 0:
		return fmt.Errorf("batch: first is 0, an epoch begins at 1")
	case count == 0 || count > wire.MaxBatchRecords:
		return fmt.Errorf("batch: %d records, want 1 to %d", count, wire.MaxBatchRecords)
	case b.GetLast() < b.GetFirst() || b.GetLast()-b.GetFirst() != count-1:
		return fmt.Errorf("batch: %d records for the range %d..%d", count, b.GetFirst(), b.GetLast())
	}
	for i, r := range b.GetRecords() {
		if want := b.GetFirst() + uint64(i); r.GetSequence() != want {
			return fmt.Errorf("batch: record %d of it has sequence %d, want %d", i, r.GetSequence(), want)
		}
		if err := checkRecord(r); err != nil {
			return fmt.Errorf("record %d: %w", r.GetSequence(), err)
		}
	}
	return nil
}
