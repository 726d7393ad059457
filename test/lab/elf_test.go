package lab

import (
	"encoding/binary"
	"runtime"
)

// Where programs of the lab's own making are mapped: below any that a linker made.
const programBase = 0x200000

// Sizes of an ELF file's header, and of the header of each of its segments.
const elfHeader, segmentHeader = 64, 56

// segment is a part of a program as the kernel maps it.
type segment struct {
	kind, rights               uint32
	offset, address, file, mem uint64
}

// The kinds and rights of segments.
const (
	segmentLoad        = 1
	segmentInterpreter = 3
	mayExecute         = 1
	mayRead            = 4
)

// buildProgram makes an executable for this machine: headers, and behind them the body.
func buildProgram(entry uint64, segments []segment, body []byte) []byte {
	const amd64, arm64 = 62, 183
	machine := uint16(amd64)
	if runtime.GOARCH == "arm64" {
		machine = arm64
	}
	le := binary.LittleEndian
	file := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	file = le.AppendUint16(file, 2) // an executable
	file = le.AppendUint16(file, machine)
	file = le.AppendUint32(file, 1)
	for _, n := range []uint64{entry, elfHeader, 0} { // segments follow this header; there are no sections
		file = le.AppendUint64(file, n)
	}
	file = le.AppendUint32(file, 0)
	for _, n := range []uint16{elfHeader, segmentHeader, uint16(len(segments)), 0, 0, 0} {
		file = le.AppendUint16(file, n)
	}
	for _, s := range segments {
		file = le.AppendUint32(le.AppendUint32(file, s.kind), s.rights)
		for _, n := range []uint64{s.offset, s.address, s.address, s.file, s.mem, 4096} {
			file = le.AppendUint64(file, n)
		}
	}
	return append(file, body...)
}

// buildCode makes a program of machine code alone. It is mapped, headers included, from programBase.
func buildCode(code []byte) []byte {
	const headers = elfHeader + segmentHeader
	size := uint64(headers + len(code))
	all := segment{segmentLoad, mayRead | mayExecute, 0, programBase, size, size}
	return buildProgram(programBase+headers, []segment{all}, code)
}

// buildHollow makes a program of which nothing is mapped: its interpreter, which must be linked statically, runs instead of
// it. tag makes its hash its own.
func buildHollow(interpreter, tag string) []byte {
	const headers = elfHeader + 2*segmentHeader
	name := append([]byte(interpreter), 0)
	return buildProgram(0, []segment{
		{segmentInterpreter, mayRead, headers, 0, uint64(len(name)), uint64(len(name))},
		{segmentLoad, mayRead, 0, programBase, 0, 4096},
	}, append(name, tag...))
}
