package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

const receiveBuffer = 64 << 10

func (p *puppet) onSocket(c script.Command, s *socket, r *script.Reply) error {
	switch c.Do {
	case script.Bind:
		return p.bind(c, s)
	case script.Listen:
		return p.listen(s)
	case script.Accept:
		return p.accept(c, s)
	case script.Connect:
		return p.connect(c, s)
	case script.Send:
		return p.send(c, s, r)
	case script.SendTo:
		return p.sendTo(c, s, r)
	case script.Receive, script.Read, script.RecvFrom:
		return p.receive(c, s, r)
	case script.Peek:
		return p.peek(s, r)
	case script.Close:
		delete(p.sockets, c.Name)
		return unix.Close(s.fd)
	case script.Fork:
		return p.fork(c, s, r)
	case script.Threads:
		return p.threads(c, s, r)
	case script.Pump, script.Drain:
		return p.background(c, s)
	case script.Flood:
		return p.flood(c, s, r)
	}
	return fmt.Errorf("unknown command %q", c.Do)
}

func times(c script.Command) int { return max(c.Times, 1) }

// send moves Times times Bytes. A stream may take a part of a call; the rest goes out with the next.
func (p *puppet) send(c script.Command, s *socket, r *script.Reply) error {
	buf := make([]byte, c.Bytes)
	for range times(c) {
		for rest := buf; ; {
			n, err := sendCall(s.fd, rest)
			if err != nil {
				return err
			}
			p.ledger.sent(s, s.remote, n)
			r.Bytes, r.Calls = r.Bytes+uint64(n), r.Calls+1
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
	}
	return nil
}

func (p *puppet) sendTo(c script.Command, s *socket, r *script.Reply) error {
	buf := make([]byte, c.Bytes)
	for _, peer := range c.Peers {
		a, err := s.sockaddr(peer)
		if err != nil {
			return err
		}
		for range times(c) {
			if err := unix.Sendto(s.fd, buf, 0, a); err != nil {
				return err
			}
			// A datagram goes whole or not at all. The first one gives the socket its port.
			if s.local.Port() == 0 {
				if err := s.refresh(); err != nil {
					return err
				}
			}
			p.ledger.sent(s, fromSockaddr(a), len(buf))
			r.Bytes, r.Calls = r.Bytes+uint64(len(buf)), r.Calls+1
		}
	}
	return nil
}

// receive takes Times datagrams, or from a stream until Bytes have come.
func (p *puppet) receive(c script.Command, s *socket, r *script.Reply) error {
	buf := make([]byte, receiveBuffer)
	for i := 0; ; i++ {
		if s.kind == unix.SOCK_DGRAM && i == times(c) {
			return nil
		}
		if s.kind == unix.SOCK_STREAM && r.Bytes >= uint64(c.Bytes) && i > 0 {
			return nil
		}
		n, from, err := receiveCall(c.Do, s, buf)
		if err != nil {
			return err
		}
		p.ledger.received(s, from, n)
		r.Bytes, r.Calls = r.Bytes+uint64(n), r.Calls+1
		if n == 0 && s.kind == unix.SOCK_STREAM {
			return nil
		}
	}
}

// receiveCall makes one call. The peer is the one that the call, or the connection, tells.
func receiveCall(do string, s *socket, buf []byte) (int, netip.AddrPort, error) {
	switch do {
	case script.Read:
		n, err := retry(func() (int, error) { return unix.Read(s.fd, buf) })
		return n, s.remote, err
	case script.RecvFrom:
		var from unix.Sockaddr
		n, err := retry(func() (n int, err error) {
			n, from, err = unix.Recvfrom(s.fd, buf, 0)
			return n, err
		})
		if s.remote.IsValid() {
			return n, s.remote, err
		}
		return n, fromSockaddr(from), err
	}
	n, err := retry(func() (int, error) { return recvCall(s.fd, buf, 0) })
	return n, s.remote, err
}

func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR { // a bare errno
			return n, err
		}
	}
}

func (p *puppet) peek(s *socket, r *script.Reply) error {
	n, err := retry(func() (int, error) { return recvCall(s.fd, make([]byte, receiveBuffer), unix.MSG_PEEK) })
	r.Bytes, r.Calls = uint64(max(n, 0)), 1
	return err
}

// flood sends one byte to each of Times addresses of 127.0.0.0/8. One flow stands for all of them in the account.
func (p *puppet) flood(c script.Command, s *socket, r *script.Reply) error {
	one := []byte{0}
	for i := range times(c) {
		n := i + 256 // 127.0.1.0 upwards: clear of 127.0.0.1
		a := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)}}
		if err := unix.Sendto(s.fd, one, 0, a); err != nil {
			return err
		}
	}
	if err := s.refresh(); err != nil {
		return err
	}
	n := uint64(times(c))
	p.ledger.book(s, netip.AddrPort{}, func(f *script.Flow) { f.Sent, f.Sends, f.Folded = f.Sent+n, f.Sends+n, true })
	r.Bytes, r.Calls = n, n
	return nil
}

// background starts a sender or a receiver that works until halt.
func (p *puppet) background(c script.Command, s *socket) error {
	// A short time-out lets the worker notice that it shall stop.
	tv := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, option, &tv); err != nil {
			return err
		}
	}
	stop := p.stop
	p.workers.Go(func() {
		buf := make([]byte, receiveBuffer)
		if c.Do == script.Pump {
			buf = make([]byte, c.Bytes)
		}
		for !stopped(stop) {
			p.backgroundCall(c, s, buf)
			time.Sleep(time.Duration(c.Gap) * time.Microsecond)
		}
	})
	return nil
}

func (p *puppet) backgroundCall(c script.Command, s *socket, buf []byte) {
	if c.Do == script.Pump {
		if n, err := sendCall(s.fd, buf); err == nil {
			p.ledger.sent(s, s.remote, n)
		}
		return
	}
	if n, from, err := receiveCall(script.Receive, s, buf); err == nil && n > 0 {
		p.ledger.received(s, from, n)
	}
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}
