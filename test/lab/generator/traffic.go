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
	case script.Detach:
		return s.detach()
	case script.Send, script.SendTo:
		return p.send(c, s, r)
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
	case script.Set:
		return p.set(c, s)
	case script.FastOpen:
		return p.fastOpen(c, s, r)
	case script.ErrQueue:
		return p.errors(s, r)
	case script.Give:
		return p.give(c, s)
	case script.Fix:
		return p.fix(s)
	case script.Swallow:
		return p.swallow(s)
	}
	return fmt.Errorf("unknown command %q", c.Do)
}

func times(c script.Command) int { return max(c.Times, 1) }

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
			p.ledger.sent(s, s.remote, n, false)
		}
		return
	}
	if n, err := recvCall(s.fd, buf, 0); err == nil && n > 0 {
		p.ledger.received(s, s.remote, n, false)
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
