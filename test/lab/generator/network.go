package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// experimental is the Ethernet protocol for local experiments: no one else's frames.
const experimental = 0x88b5

// networks are the words for [script.Command].Net. "raw4:253" and "raw6:253" name the protocol after the colon.
func networks() map[string]socket {
	const (
		v4, v6   = unix.AF_INET, unix.AF_INET6
		stream   = unix.SOCK_STREAM
		datagram = unix.SOCK_DGRAM
	)
	return map[string]socket{
		"tcp4":         {family: v4, kind: stream, protocol: unix.IPPROTO_TCP},
		"tcp6":         {family: v6, kind: stream, protocol: unix.IPPROTO_TCP},
		"udp4":         {family: v4, kind: datagram, protocol: unix.IPPROTO_UDP},
		"udp6":         {family: v6, kind: datagram, protocol: unix.IPPROTO_UDP},
		"mptcp4":       {family: v4, kind: stream, protocol: unix.IPPROTO_MPTCP},
		"mptcp6":       {family: v6, kind: stream, protocol: unix.IPPROTO_MPTCP},
		"sctp4":        {family: v4, kind: stream, protocol: unix.IPPROTO_SCTP},
		"sctp6":        {family: v6, kind: stream, protocol: unix.IPPROTO_SCTP},
		"sctp4-many":   {family: v4, kind: unix.SOCK_SEQPACKET, protocol: unix.IPPROTO_SCTP},
		"ping4":        {family: v4, kind: datagram, protocol: unix.IPPROTO_ICMP},
		"ping6":        {family: v6, kind: datagram, protocol: unix.IPPROTO_ICMPV6},
		"raw4":         {family: v4, kind: unix.SOCK_RAW},
		"raw6":         {family: v6, kind: unix.SOCK_RAW},
		"vsock":        {family: unix.AF_VSOCK, kind: stream},
		"packet":       {family: unix.AF_PACKET, kind: unix.SOCK_RAW},
		"packet-dgram": {family: unix.AF_PACKET, kind: datagram},
	}
}

func newSocket(network string) (*socket, error) {
	word, number, numbered := strings.Cut(network, ":")
	s, ok := networks()[word]
	if !ok {
		return nil, fmt.Errorf("net %q: not a word of network.go", network)
	}
	s.fd, s.network = -1, network
	if numbered {
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("net %q: %w", network, err)
		}
		s.protocol = n
	}
	return &s, nil
}

func (s *socket) stream() bool { return s.kind == unix.SOCK_STREAM }

// packet tells whether frames go over the socket, which has no addresses of its own then.
func (s *socket) packet() bool { return s.family == unix.AF_PACKET }

// portless tells whether the numbers that the kernel shows as ports are something else (an identifier, a protocol).
func (s *socket) portless() bool {
	switch s.protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_MPTCP, unix.IPPROTO_SCTP:
		return s.kind == unix.SOCK_RAW
	}
	return true
}

// number is what socket(2) gets: AF_PACKET hears nothing until it is bound.
func (s *socket) number() int {
	if s.packet() {
		return 0
	}
	return s.protocol
}

// frameAddress means the device, the experimental protocol and everybody.
func frameAddress(ifindex int) *unix.SockaddrLinklayer {
	a := &unix.SockaddrLinklayer{Protocol: bigEndian(experimental), Ifindex: ifindex, Halen: 6}
	copy(a.Addr[:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return a
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
