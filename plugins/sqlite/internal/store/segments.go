package store

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
)

// Field numbers of record.proto.
const (
	batchRecords    = 5
	recordFlow      = 2
	recordExec      = 3
	flowProcess     = 25
	flowGrandparent = 27
	execProcess     = 2
	execGrandparent = 4
)

// segments gives, for each record of a batch, the encoded process, parent and grandparent of its flow or execution, with
// their field numbers, in one piece. Processes repeat from record to record and are large: their bytes tell them apart
// without encoding them again, unknown fields of later versions included.
func segments(b *sdk.Batch) ([][]byte, error) {
	raw := b.Raw
	if len(raw) == 0 {
		var err error
		if raw, err = (proto.MarshalOptions{Deterministic: true}).Marshal(b.Batch); err != nil {
			return nil, fmt.Errorf("encode batch: %w", err)
		}
	}
	list := make([][]byte, 0, len(b.GetRecords()))
	buf := make([]byte, 0, len(raw))
	err := fields(raw, func(number protowire.Number, value []byte) error {
		if number != batchRecords {
			return nil
		}
		begin := len(buf)
		var err error
		buf, err = ancestry(buf, value)
		list = append(list, buf[begin:len(buf):len(buf)])
		return err
	})
	if err == nil && len(list) != len(b.GetRecords()) {
		err = fmt.Errorf("%d records in %d encoded ones", len(b.GetRecords()), len(list))
	}
	return list, err
}

// ancestry appends the processes of an encoded record.
func ancestry(buf, record []byte) ([]byte, error) {
	err := fields(record, func(number protowire.Number, value []byte) error {
		first, last := protowire.Number(flowProcess), protowire.Number(flowGrandparent)
		switch number {
		case recordFlow:
		case recordExec:
			first, last = execProcess, execGrandparent
		default:
			return nil
		}
		return fields(value, func(number protowire.Number, value []byte) error {
			if number >= first && number <= last {
				buf = append(buf, byte(number-first))
				buf = protowire.AppendBytes(buf, value)
			}
			return nil
		})
	})
	return buf, err
}

// fields calls f with each length-delimited field of a message.
func fields(message []byte, f func(number protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("decode batch: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return fmt.Errorf("decode batch: %w", protowire.ParseError(size))
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[n:])
			if err := f(number, value); err != nil {
				return err
			}
		}
		message = message[n+size:]
	}
	return nil
}
