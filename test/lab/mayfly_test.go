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
		0xbe, 0, 0, programBase >> 16, 0, // mov esi, programBase
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

	return buildCode(code)
}

// buildGnat makes a program for Linux on amd64 that ends at once. tag makes its hash its own.
func buildGnat(tag uint32) []byte {
	return buildCode(binary.LittleEndian.AppendUint32([]byte{
		0x31, 0xff, // xor edi, edi
		0xb8, 231, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	}, tag))
}
