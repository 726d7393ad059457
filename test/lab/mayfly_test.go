package lab

import (
	"encoding/binary"
	"net/netip"
)

// mayflyBytes is what each mayfly sends: its exit code says so.
const mayflyBytes = 100

// buildMayfly makes a program for Linux on amd64 that connects to an address, sends mayflyBytes and ends: a few system
// calls and no runtime, so that two cores can start thousands a second. tag makes its hash its own.
func buildMayfly(to netip.AddrPort, tag uint32) []byte {
	const base, headers = 0x400000, 64 + 56 // where the file is mapped; ELF and program header
	code := []byte{
		0xb8, 41, 0, 0, 0, // mov eax, socket
		0xbf, 2, 0, 0, 0, // mov edi, AF_INET
		0xbe, 1, 0, 0, 0, // mov esi, SOCK_STREAM
		0x31, 0xd2, // xor edx, edx
		0x0f, 0x05, // syscall
		0x89, 0xc3, // mov ebx, eax
		0xb8, 42, 0, 0, 0, // mov eax, connect
		0x89, 0xdf, // mov edi, ebx
		0x48, 0x8d, 0x35, 0, 0, 0, 0, // lea rsi, [rip + address]: filled in below
		0xba, 16, 0, 0, 0, // mov edx, 16
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 21, // jnz to the end
		0xb8, 1, 0, 0, 0, // mov eax, write
		0x89, 0xdf, // mov edi, ebx
		0xbe, 0, 0, 0x40, 0, // mov esi, base
		0xba, mayflyBytes, 0, 0, 0, // mov edx, mayflyBytes
		0x0f, 0x05, // syscall
		0xeb, 2, // jmp over the next
		0x31, 0xc0, // the end: xor eax, eax
		0x89, 0xc7, // mov edi, eax
		0xb8, 231, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	}
	const operand, next = 31, 35 // of lea: its offset, and where it counts from
	binary.LittleEndian.PutUint32(code[operand:], uint32(len(code)-next))
	address := append([]byte{2, 0, byte(to.Port() >> 8), byte(to.Port())}, to.Addr().AsSlice()...)
	code = append(append(code, address...), 0, 0, 0, 0, 0, 0, 0, 0)
	code = binary.LittleEndian.AppendUint32(code, tag)

	file := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	le := binary.LittleEndian
	file = le.AppendUint16(file, 2)  // an executable
	file = le.AppendUint16(file, 62) // for amd64
	file = le.AppendUint32(file, 1)
	file = le.AppendUint64(file, base+headers) // begins here
	file = le.AppendUint64(file, 64)           // the program header
	file = le.AppendUint64(file, 0)
	file = le.AppendUint32(file, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		file = le.AppendUint16(file, n)
	}
	file = le.AppendUint32(file, 1) // to be loaded
	file = le.AppendUint32(file, 5) // readable, executable
	size := uint64(headers + len(code))
	for _, n := range []uint64{0, base, base, size, size, 4096} {
		file = le.AppendUint64(file, n)
	}
	return append(file, code...)
}
