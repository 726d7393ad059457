package main

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// payload is Bytes bytes, headers included where the socket wants the caller to write them.
func (p *puppet) payload(c script.Command, s *socket) ([]byte, error) {
	buf := make([]byte, c.Bytes)
	switch {
	case s.packet() && s.kind == unix.SOCK_RAW:
		copy(buf, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, experimental >> 8, experimental & 0xff})
	case s.protocol == unix.IPPROTO_ICMP:
		echo(buf, 8)
		binary.BigEndian.PutUint16(buf[2:], checksum(buf))
	case s.protocol == unix.IPPROTO_ICMPV6:
		echo(buf, 128) // the kernel fills the checksum in
	case s.header && len(c.Peers) > 0:
		to, err := netip.ParseAddrPort(c.Peers[0])
		if err != nil {
			return nil, err
		}
		ipHeader(buf, s.local.Addr(), to.Addr())
	}
	return buf, nil
}

// echo writes the head of an echo request.
func echo(buf []byte, kind byte) {
	buf[0] = kind
	buf[5], buf[7] = 7, 1
}

// ipHeader writes one of protocol 253.
func ipHeader(buf []byte, from, to netip.Addr) {
	if from.Is4() {
		copy(buf, []byte{0x45, 0, byte(len(buf) >> 8), byte(len(buf)), 0, 0, 0, 0, 64, 253})
		copy(buf[12:], from.AsSlice())
		copy(buf[16:], to.AsSlice())
		binary.BigEndian.PutUint16(buf[10:], checksum(buf[:20]))
		return
	}
	n := len(buf) - 40
	copy(buf, []byte{0x60, 0, 0, 0, byte(n >> 8), byte(n), 253, 64})
	copy(buf[8:], from.AsSlice())
	copy(buf[24:], to.AsSlice())
}

// checksum is that of RFC 1071.
func checksum(buf []byte) uint16 {
	sum := uint32(0)
	for i, b := range buf {
		if i%2 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// udpPacket is a whole IPv4 packet with n bytes for a port.
func udpPacket(from, to netip.AddrPort, n int) []byte {
	buf := make([]byte, 28+n)
	ipHeader(buf, from.Addr(), to.Addr())
	buf[9] = unix.IPPROTO_UDP
	buf[10], buf[11] = 0, 0
	binary.BigEndian.PutUint16(buf[10:], checksum(buf[:20]))
	binary.BigEndian.PutUint16(buf[20:], from.Port())
	binary.BigEndian.PutUint16(buf[22:], to.Port())
	binary.BigEndian.PutUint16(buf[24:], uint16(8+n)) // no checksum: zero says so
	return buf
}
