package main

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

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
	ifindex  int            // of a packet socket that is bound
	room     *frameRing     // of a packet socket with a ring
	header   bool           // what is sent begins with an IP header
	fixed    bool           // an io_uring holds it; fd is closed
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
	if s.packet() || s.fixed {
		return nil
	}
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
	if s.fd, err = unix.Socket(s.family, s.kind, s.number()); err != nil {
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
	if s.packet() {
		return s.bindDevice(c.Address)
	}
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
	if err := unix.Listen(s.fd, 4096); err != nil {
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
	remote := fromSockaddr(a)
	err = unix.Connect(s.fd, a)
	if err == nil || err == unix.EINPROGRESS {
		if e := s.refresh(); e != nil {
			return e
		}
	}
	if s.portless() && err == nil { // getpeername(2) tells no peer without a port
		s.remote = remote
	}
	if !s.stream() { // connect only sets the address of a datagram socket
		return err
	}
	p.ledger.book(s, remote, func(f *script.Flow) {
		f.Connects++
		if err != nil && err != unix.EINPROGRESS {
			f.Failures++
		}
	})
	return err
}

// detach takes the peer away, and the port if the kernel chose it.
func (s *socket) detach() error {
	nobody := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(&nobody)), unsafe.Sizeof(nobody))
	if errno != 0 {
		return errno
	}
	return s.refresh()
}

// bindDevice makes a packet socket hear the experimental protocol on one device.
func (s *socket) bindDevice(name string) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	s.ifindex = device.Index
	return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: bigEndian(experimental), Ifindex: device.Index})
}

func (s *socket) sockaddr(address string) (unix.Sockaddr, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	if s.family == unix.AF_VSOCK {
		return &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: uint32(a.Port())}, nil
	}
	if s.portless() { // a port is refused by raw IPv6 sockets
		a = netip.AddrPortFrom(a.Addr(), 0)
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
	case *unix.SockaddrVM: // 127.0.0.1 stands for the loopback's context
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(a.Port))
	}
	return netip.AddrPort{}
}
