package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// numeric are the words of Set whose value is a number.
func numeric() map[string][2]int {
	return map[string][2]int{
		"oobinline":       {unix.SOL_SOCKET, unix.SO_OOBINLINE},
		"peekoff":         {unix.SOL_SOCKET, unix.SO_PEEK_OFF},
		"nodelay":         {unix.IPPROTO_TCP, unix.TCP_NODELAY},
		"fastopen":        {unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
		"fastopenconnect": {unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT},
		"cork":            {unix.IPPROTO_UDP, unix.UDP_CORK},
		"gso":             {unix.IPPROTO_UDP, unix.UDP_SEGMENT},
		"gro":             {unix.IPPROTO_UDP, unix.UDP_GRO},
		"recverr":         {unix.IPPROTO_IP, unix.IP_RECVERR},
	}
}

func (p *puppet) set(c script.Command, s *socket) error {
	word, value, _ := strings.Cut(c.Option, "=")
	switch word {
	case "join":
		return s.join(value)
	case "through":
		return s.through(value)
	case "echo-only":
		return s.hearEchoesOnly()
	case "tls":
		return s.encrypt()
	case "header":
		return s.writeHeaders()
	case "rx-ring":
		_, err := s.frames(unix.PACKET_RX_RING)
		return err
	}
	option, ok := numeric()[word]
	if !ok {
		return fmt.Errorf("no option called %q", word)
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("option %q: %w", c.Option, err)
	}
	return unix.SetsockoptInt(s.fd, option[0], option[1], n)
}

// join takes "group@device".
func (s *socket) join(value string) error {
	group, name, _ := strings.Cut(value, "@")
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	ip, err := netip.ParseAddr(group)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if ip.Is4() {
		m := unix.IPMreqn{Multiaddr: ip.As4(), Ifindex: int32(device.Index)}
		return unix.SetsockoptIPMreqn(s.fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &m)
	}
	m := unix.IPv6Mreq{Multiaddr: ip.As16(), Interface: uint32(device.Index)}
	return unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &m)
}

// through says over which device datagrams to groups go.
func (s *socket) through(name string) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("send through: %w", err)
	}
	if s.family == unix.AF_INET6 {
		return unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, device.Index)
	}
	return unix.SetsockoptIPMreqn(s.fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(device.Index)})
}

// hearEchoesOnly keeps a raw ICMPv6 socket from neighbour discovery, which comes whenever it likes.
func (s *socket) hearEchoesOnly() error {
	const reply = 129
	f := &unix.ICMPv6Filter{}
	for i := range f.Data {
		f.Data[i] = ^uint32(0) // a bit that is set blocks
	}
	f.Data[reply/32] &^= 1 << (reply % 32)
	return unix.SetsockoptICMPv6Filter(s.fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, f)
}

// writeHeaders makes what is sent begin with the IP header.
func (s *socket) writeHeaders() error {
	s.header = true
	if s.family == unix.AF_INET {
		return unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1)
	}
	return unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL, 1)
}

// fastOpen connects and sends in one call.
func (p *puppet) fastOpen(c script.Command, s *socket, r *script.Reply) error {
	to, err := s.sockaddr(c.Address)
	if err != nil {
		return err
	}
	moves, err := flagged(unix.MSG_FASTOPEN)(p, s, make([]byte, c.Bytes), to)
	if err != nil {
		return err
	}
	if err := s.refresh(); err != nil {
		return err
	}
	p.ledger.book(s, s.remote, func(f *script.Flow) { f.Connects++ })
	for _, m := range moves {
		p.bookSent(c, s, to, m, r)
	}
	return nil
}

// errors takes from the error queue, which is no traffic.
func (p *puppet) errors(s *socket, r *script.Reply) error {
	if err := waitFor(s.fd, unix.POLLERR); err != nil {
		return err
	}
	n, err := errorQueue(s.fd, make([]byte, 2048))
	r.Bytes, r.Calls = uint64(max(n, 0)), 1
	return err
}
