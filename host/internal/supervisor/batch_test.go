package supervisor

import (
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// encode makes a batch of listening records.
func encode(first, last uint64) []byte {
	b := &wire.Batch{HostId: make([]byte, 16), Epoch: testEpoch[:], First: first, Last: last}
	for sequence := first; sequence <= last; sequence++ {
		b.Records = append(b.Records, &wire.Record{Sequence: sequence, Kind: &wire.Record_Config{Config: &wire.Config{}}})
	}
	raw, err := proto.Marshal(b)
	if err != nil {
		panic(err) // a fixed value that always encodes
	}
	return raw
}

func decode(raw []byte) *wire.Batch {
	b := new(wire.Batch)
	if err := proto.Unmarshal(raw, b); err != nil {
		panic(err)
	}
	return b
}
