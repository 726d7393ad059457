package storekit

import "encoding/binary"

// thrift appends a structure in Thrift's compact protocol, of which Parquet's headers are made: each field as the distance
// to the number of the one before it and its type, then its value.
// See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
type thrift struct {
	out  []byte
	last int // number of the field before
}

// The types that are needed.
const (
	thriftI32    = 5
	thriftI64    = 6
	thriftBinary = 8
	thriftList   = 9
	thriftStruct = 12
)

// field begins the field of a number, which must be larger than the one before.
func (t *thrift) field(number, kind int) {
	t.out = append(t.out, byte((number-t.last)<<4|kind)) // no structure here has a distance above 15
	t.last = number
}

func (t *thrift) i32(number int, value int) {
	t.field(number, thriftI32)
	t.out = binary.AppendVarint(t.out, int64(value))
}

func (t *thrift) i64(number int, value int64) {
	t.field(number, thriftI64)
	t.out = binary.AppendVarint(t.out, value)
}

func (t *thrift) text(number int, value string) {
	t.field(number, thriftBinary)
	t.element(value)
}

// list begins a list; its elements follow.
func (t *thrift) list(number, kind, length int) {
	t.field(number, thriftList)
	if length < 15 {
		t.out = append(t.out, byte(length<<4|kind))
		return
	}
	t.out = binary.AppendUvarint(append(t.out, byte(0xf0|kind)), uint64(length))
}

// element appends an element of a list of texts.
func (t *thrift) element(value string) {
	t.out = append(binary.AppendUvarint(t.out, uint64(len(value))), value...)
}

// inner appends a structure that stands in a field or in a list, where its own numbering begins anew.
func (t *thrift) inner(fill func(*thrift)) {
	in := thrift{out: t.out}
	fill(&in)
	t.out = append(in.out, 0)
}
