package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// socket is a blocking socket without Go's poller: each method of the puppet is exactly the system calls it names.
type socket struct {
	fd       int
	network  string
	family   int
	kind     int
	protocol int
	local    netip.AddrPort
	remote   netip.AddrPort // invalid while not connected
}

func newSocket(network string) (*socket, error) {
	s := &socket{fd: -1, network: network}
	switch network {
	case "tcp4", "tcp6":
		s.kind, s.protocol = unix.SOCK_STREAM, unix.IPPROTO_TCP
	case "udp4", "udp6":
		s.kind, s.protocol = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	default:
		return nil, fmt.Errorf("net %q is none of tcp4 tcp6 udp4 udp6", network)
	}
	s.family = unix.AF_INET
	if network[3] == '6' {
		s.family = unix.AF_INET6
	}
	return s, nil
}

// adopt is newSocket for a descriptor that is open already.
func adopt(fd int, network string) (*socket, error) {
	s, err := newSocket(network)
	if err != nil {
		return nil, err
	}
	s.fd = fd
	return s, s.refresh()
}

// refresh asks the kernel for both addresses.
func (s *socket) refresh() error {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	s.local = fromSockaddr(name)
	s.remote = netip.AddrPort{}
	if peer, err := unix.Getpeername(s.fd); err == nil {
		s.remote = fromSockaddr(peer)
	}
	return nil
}

func (p *puppet) open(c script.Command, r *script.Reply) error {
	s, err := newSocket(c.Net)
	if err != nil {
		return err
	}
	// Close-on-exec is left off: exec and spawn pass sockets on.
	if s.fd, err = unix.Socket(s.family, s.kind, 0); err != nil {
		return err
	}
	p.sockets[c.Name] = s
	if err := s.refresh(); err != nil {
		return err
	}
	r.Local = text(s.local)
	return nil
}

func (p *puppet) bind(c script.Command, s *socket) error {
	a, err := s.sockaddr(c.Address)
	if err != nil {
		return err
	}
	if err := unix.Bind(s.fd, a); err != nil {
		return err
	}
	return s.refresh()
}

func (p *puppet) listen(s *socket) error {
	if err := unix.Listen(s.fd, 256); err != nil {
		return err
	}
	if err := s.refresh(); err != nil {
		return err
	}
	p.ledger.book(s, netip.AddrPort{}, func(f *script.Flow) { f.Listens++ })
	return nil
}

func (p *puppet) accept(c script.Command, s *socket) error {
	fd, _, err := unix.Accept4(s.fd, 0)
	if err != nil {
		return err
	}
	peer, err := adopt(fd, s.network)
	if err != nil {
		return err
	}
	p.sockets[c.As] = peer
	p.ledger.book(peer, peer.remote, func(f *script.Flow) { f.Accepts++ })
	return nil
}

// connect books the attempt under the address that the socket has while trying: a failed one takes it away again,
// unless the script has bound the socket before.
func (p *puppet) connect(c script.Command, s *socket) error {
	a, err := s.sockaddr(c.Address)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(s.fd, c.Pending); err != nil {
		return err
	}
	err = unix.Connect(s.fd, a)
	if err == nil || err == unix.EINPROGRESS {
		if e := s.refresh(); e != nil {
			return e
		}
	}
	if s.protocol != unix.IPPROTO_TCP { // connect only sets the address of a datagram socket
		return err
	}
	remote := fromSockaddr(a)
	p.ledger.book(s, remote, func(f *script.Flow) {
		f.Connects++
		if err != nil && err != unix.EINPROGRESS {
			f.Failures++
		}
	})
	return err
}

func (s *socket) sockaddr(address string) (unix.Sockaddr, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	if s.family == unix.AF_INET {
		if !a.Addr().Is4() {
			return nil, fmt.Errorf("address %s on a socket of IPv4", a)
		}
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}, nil
}

func fromSockaddr(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
