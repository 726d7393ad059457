package main

import (
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

func plainSend(_ *puppet, s *socket, buf []byte, to unix.Sockaddr) ([]moved, error) {
	if to == nil {
		return one(sendCall(s.fd, buf))
	}
	// A datagram goes whole or not at all.
	return one(len(buf), unix.Sendto(s.fd, buf, 0, to))
}

func plainReceive(_ *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
	return one(retry(func() (int, error) { return recvCall(s.fd, buf, 0) }))
}

func receiveFrom(_ *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
	var from unix.Sockaddr
	n, err := retry(func() (n int, err error) {
		n, from, err = unix.Recvfrom(s.fd, buf, 0)
		return n, err
	})
	if err != nil {
		return nil, err
	}
	return []moved{{n, fromSockaddr(from)}}, nil
}

// halves makes two vectors of one buffer.
func halves(buf []byte) [][]byte { return [][]byte{buf[:len(buf)/2], buf[len(buf)/2:]} }

func writeVector(_ *puppet, s *socket, buf []byte, _ unix.Sockaddr) ([]moved, error) {
	return one(retry(func() (int, error) { return unix.Writev(s.fd, halves(buf)) }))
}

func readVector(_ *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
	return one(retry(func() (int, error) { return unix.Readv(s.fd, halves(buf)) }))
}

func flagged(flags int) sendWay {
	return func(_ *puppet, s *socket, buf []byte, to unix.Sockaddr) ([]moved, error) {
		return one(retry(func() (int, error) { return unix.SendmsgN(s.fd, buf, nil, to, flags|unix.MSG_NOSIGNAL) }))
	}
}

func receiveMessage(_ *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
	var from unix.Sockaddr
	n, err := retry(func() (n int, err error) {
		n, _, _, from, err = unix.RecvmsgBuffers(s.fd, halves(buf), nil, 0)
		return n, err
	})
	if err != nil {
		return nil, err
	}
	return []moved{{n, fromSockaddr(from)}}, nil
}

// receiveFlagged takes at most want bytes of a stream. No address is asked.
func receiveFlagged(flags int) receiveWay {
	return func(_ *puppet, s *socket, buf []byte, want int) ([]moved, error) {
		if s.stream() {
			buf = buf[:min(want, len(buf))]
		}
		return one(retry(func() (int, error) { return recvCall(s.fd, buf, flags) }))
	}
}

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      uint32
}

const batch = 4 // messages of one call

// sendMessages hands buf over in four messages by one sendmmsg(2).
func sendMessages(_ *puppet, s *socket, buf []byte, _ unix.Sockaddr) ([]moved, error) {
	var parts [][]byte
	for part := range batch {
		parts = append(parts, buf[len(buf)*part/batch:len(buf)*(part+1)/batch])
	}
	return sendBatch(s.fd, parts, make([]rawAddress, batch))
}

// sendToMany hands the payload to each peer, all by one sendmmsg(2).
func (p *puppet) sendToMany(s *socket, payload []byte, peers []unix.Sockaddr, r *script.Reply) error {
	var parts [][]byte
	var names []rawAddress
	for _, to := range peers {
		parts, names = append(parts, payload), append(names, encode(to))
	}
	moves, err := sendBatch(s.fd, parts, names)
	for i, m := range moves {
		p.bookSent(script.Command{}, s, peers[i], m, r)
	}
	return err
}

func sendBatch(fd int, parts [][]byte, names []rawAddress) ([]moved, error) {
	headers := make([]mmsghdr, len(parts))
	vectors := make([]unix.Iovec, len(parts))
	for i, part := range parts {
		fill(&headers[i].header, &vectors[i], part, &names[i])
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])),
		uintptr(len(headers)), unix.MSG_NOSIGNAL, 0, 0)
	keep(parts, names, vectors)
	return results(headers, int(n), errno, false)
}

// receiveMessages asks for up to four messages by one recvmmsg(2), with addresses.
func receiveMessages(_ *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
	if err := waitFor(s.fd, unix.POLLIN); err != nil {
		return nil, err
	}
	headers, vectors, names := make([]mmsghdr, batch), make([]unix.Iovec, batch), make([]rawAddress, batch)
	for i := range headers {
		part := buf[len(buf)*i/batch : len(buf)*(i+1)/batch]
		names[i].length = uint32(len(names[i].bytes))
		fill(&headers[i].header, &vectors[i], part, &names[i])
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&headers[0])),
		batch, unix.MSG_DONTWAIT, 0, 0)
	keep(buf, names, vectors)
	return results(headers, int(n), errno, true)
}

func keep(values ...any) { runtime.KeepAlive(values) }

func fill(h *unix.Msghdr, v *unix.Iovec, part []byte, name *rawAddress) {
	v.Base = unsafe.SliceData(part)
	v.SetLen(len(part))
	h.Iov = v
	h.SetIovlen(1)
	if name.length > 0 {
		h.Name, h.Namelen = &name.bytes[0], name.length
	}
}

func results(headers []mmsghdr, n int, errno unix.Errno, named bool) ([]moved, error) {
	if errno != 0 {
		return nil, errno
	}
	var out []moved
	for _, h := range headers[:n] {
		m := moved{bytes: int(h.length)}
		if named && h.header.Namelen > 0 {
			m.peer = decode(unsafe.Slice(h.header.Name, h.header.Namelen))
		}
		out = append(out, m)
	}
	return out, nil
}

// rawAddress is a sockaddr as the kernel reads and writes it.
type rawAddress struct {
	bytes  [unix.SizeofSockaddrAny]byte
	length uint32
}

func encode(to unix.Sockaddr) (raw rawAddress) {
	switch a := to.(type) {
	case *unix.SockaddrInet4:
		raw.set(unix.AF_INET, a.Port)
		copy(raw.bytes[4:], a.Addr[:])
		raw.length = unix.SizeofSockaddrInet4
	case *unix.SockaddrInet6:
		raw.set(unix.AF_INET6, a.Port)
		copy(raw.bytes[8:], a.Addr[:])
		raw.length = unix.SizeofSockaddrInet6
	}
	return raw
}

func (r *rawAddress) set(family uint16, port int) {
	*(*uint16)(unsafe.Pointer(&r.bytes[0])) = family
	r.bytes[2], r.bytes[3] = byte(port>>8), byte(port)
}

func decode(raw []byte) netip.AddrPort {
	port := uint16(raw[2])<<8 | uint16(raw[3])
	switch *(*uint16)(unsafe.Pointer(&raw[0])) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}
