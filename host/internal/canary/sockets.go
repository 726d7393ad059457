package canary

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// reply bounds how long one call waits. On a loopback interface everything is there before the call is made.
const reply = 250 * 1000 // microseconds

// payload is what one message carries.
const payload = "chirp..."

// endpoint is one socket of the canary.
type endpoint struct {
	fd      int
	cookie  uint64
	address netip.AddrPort // bound to
}

// trio is three UDP sockets of one family, none connected. speaker sends to the others, and silent to asker, so that asker
// has two peers: only the address that its calls ask for tells them apart. silent never asks.
type trio struct {
	speaker, asker, silent endpoint
	sent, received         sense // which peers it shows
}

// sockets is everything that the canary keeps open. The namespace lives as long as they do.
type sockets struct {
	fds      []int
	listener endpoint
	client   endpoint
	server   endpoint // accepted
	refused  endpoint // connects, always in vain, to a port where nobody listens
	trios    []trio
}

// makeSockets makes the sockets, all but the accepted one, without moving anything.
func makeSockets() (*sockets, error) {
	s := &sockets{}
	err := inNamespace(func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		return s.open()
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// inNamespace runs do in a new network namespace, on a thread that ends with it.
func inNamespace(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not fit for anybody else
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make network namespace: %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

func (s *sockets) open() error {
	for _, e := range []*endpoint{&s.listener, &s.client, &s.refused} {
		var err error
		if *e, err = s.socket(unix.AF_INET, unix.SOCK_STREAM); err != nil {
			return err
		}
	}
	v4, err := s.trio(unix.AF_INET)
	if err != nil {
		return err
	}
	v4.sent, v4.received = peersSentV4, peersReceivedV4
	s.trios = []trio{v4}
	v6, err := s.trio(unix.AF_INET6)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil // a machine without IPv6
	}
	if err != nil {
		return err
	}
	v6.sent, v6.received = peersSentV6, peersReceivedV6
	s.trios = append(s.trios, v6)
	return nil
}

func (s *sockets) trio(family int) (trio, error) {
	var t trio
	for _, e := range []*endpoint{&t.speaker, &t.asker, &t.silent} {
		var err error
		if *e, err = s.socket(family, unix.SOCK_DGRAM); err != nil {
			return t, err
		}
	}
	return t, nil
}

// socket makes one that is bound to loopback.
func (s *sockets) socket(family, kind int) (endpoint, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return endpoint{}, fmt.Errorf("make socket: %w", err)
	}
	s.fds = append(s.fds, fd)
	loopback := netip.IPv6Loopback()
	if family == unix.AF_INET {
		loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(loopback, 0))); err != nil {
		return endpoint{}, fmt.Errorf("bind socket: %w", err)
	}
	return describe(fd)
}

// describe sets a socket's deadlines and asks the kernel what it is called.
func describe(fd int) (endpoint, error) {
	e := endpoint{fd: fd}
	wait := unix.Timeval{Usec: reply}
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &wait); err != nil {
			return e, fmt.Errorf("set deadline of socket: %w", err)
		}
	}
	var err error
	if e.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		return e, fmt.Errorf("read cookie of socket: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return e, fmt.Errorf("read address of socket: %w", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		e.address = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		e.address = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return e, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// connect connects the TCP pair. The listener's port stays bound, and closed.
func (s *sockets) connect() error {
	if err := unix.Listen(s.listener.fd, 1); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := again(func() error { return unix.Connect(s.client.fd, sockaddr(s.listener.address)) }); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var fd int
	err := again(func() (err error) {
		fd, _, err = unix.Accept4(s.listener.fd, unix.SOCK_CLOEXEC)
		return err
	})
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	s.fds = append(s.fds, fd)
	s.server, err = describe(fd)
	return err
}

// again repeats a call that a signal interrupted: with a deadline the kernel does not.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EALREADY) {
			return err
		}
	}
}

// cookies of all sockets that there are.
func (s *sockets) cookies() []uint64 {
	list := []uint64{s.listener.cookie, s.client.cookie, s.refused.cookie}
	if s.server.cookie != 0 {
		list = append(list, s.server.cookie)
	}
	for _, t := range s.trios {
		list = append(list, t.speaker.cookie, t.asker.cookie, t.silent.cookie)
	}
	return list
}

func (s *sockets) close() {
	for _, fd := range s.fds {
		_ = unix.Close(fd) // nothing is written to it that could be lost
	}
}
