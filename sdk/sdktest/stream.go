package sdktest

import (
	"encoding/binary"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Stream numbers and seals records as a host's journal does within one epoch.
type Stream struct {
	Host  [16]byte
	Epoch sdk.Epoch
	Last  uint64 // sequence of the last record handed out

	chain sdk.Hash
}

// NewStream begins an epoch; equal numbers give equal ones, all of the same host.
func NewStream(epoch uint64) *Stream {
	s := &Stream{Host: [16]byte{'s', 'd', 'k', 't', 'e', 's', 't'}}
	binary.BigEndian.PutUint64(s.Epoch[8:], epoch+1)
	return s
}

// Next numbers the records, which it keeps, and returns the next batch of the epoch.
func (s *Stream) Next(records []*wire.Record) *wire.Batch {
	b := &wire.Batch{
		HostId: s.Host[:], Epoch: s.Epoch[:], Records: records,
		First: s.Last + 1, Last: s.Last + uint64(len(records)),
	}
	for i, r := range records {
		r.Sequence = b.First + uint64(i)
	}
	s.Last = b.Last
	s.chain = sdk.Seal(b, s.chain)
	return b
}

// Gap makes the batch that a sink gets in the place of the next records, which the host has lost: it has the number of the
// last of them alone, and no part in the chain, as docs/wire.md has it.
func (s *Stream) Gap(lost []*wire.Record) *wire.Batch {
	b := s.Next(lost) // the host's chain goes on with what nobody gets
	gap := &wire.Gap{Reason: wire.GapReason_GAP_QUEUE_DROPPED, Cause: "journal full", Events: uint64(len(lost)),
		Epoch: b.Epoch, First: b.First, Last: b.Last}
	return &wire.Batch{HostId: b.HostId, Epoch: b.Epoch, First: b.Last, Last: b.Last,
		Records: []*wire.Record{{Sequence: b.Last, Kind: &wire.Record_Gap{Gap: gap}}}}
}

// Part is the piece first..last of a batch, as the host sends it while it looks for a record that a sink refuses. It has no
// part in the chain. Records are shared with the batch.
func Part(b *wire.Batch, first, last uint64) *wire.Batch {
	return &wire.Batch{HostId: b.HostId, Epoch: b.Epoch, First: first, Last: last,
		Records: b.Records[first-b.First : last-b.First+1]}
}
