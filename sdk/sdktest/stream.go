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
