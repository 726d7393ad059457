package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// moved is what one call, or one message of it, says that it moved.
type moved struct {
	bytes int
	peer  netip.AddrPort // invalid: the socket's own
}

// one is the result of a call that says nothing but a number.
func one(n int, err error) ([]moved, error) {
	if err != nil {
		return nil, err
	}
	return []moved{{bytes: n}}, nil
}

// sendWay hands bytes over. to is nil on a socket that has a peer.
type sendWay func(p *puppet, s *socket, buf []byte, to unix.Sockaddr) ([]moved, error)

// receiveWay takes bytes: on a stream no more than want.
type receiveWay func(p *puppet, s *socket, buf []byte, want int) ([]moved, error)

func sendWays() map[string]sendWay {
	return map[string]sendWay{
		"":               plainSend,
		script.Vector:    writeVector,
		script.Message:   flagged(0),
		script.Messages:  sendMessages,
		script.Urgent:    flagged(unix.MSG_OOB),
		script.More:      flagged(unix.MSG_MORE),
		script.SendFile:  sendFile,
		script.Splice:    spliceOut,
		script.Vmsplice:  vmspliceOut,
		script.ZeroCopy:  sendZeroCopy,
		script.Ring:      ringSend(ringPlain, 0),
		script.RingAsync: ringSend(ringPlain, sqeAsync),
		script.RingPoll:  ringSend(ringPolled, 0),
		script.RingZC:    ringSendZeroCopy,
		script.Frames:    sendFrames,
	}
}

func receiveWays() map[string]receiveWay {
	return map[string]receiveWay{
		"":               plainReceive,
		script.Vector:    readVector,
		script.Message:   receiveMessage,
		script.Messages:  receiveMessages,
		script.Urgent:    receiveFlagged(unix.MSG_OOB),
		script.Truncate:  receiveFlagged(unix.MSG_TRUNC),
		script.WaitAll:   receiveFlagged(unix.MSG_WAITALL),
		script.Splice:    spliceIn,
		script.ZeroCopy:  receiveZeroCopy,
		script.CopyBuf:   receiveCopied,
		script.Ring:      ringReceive(ringPlain, 0),
		script.RingAsync: ringReceive(ringPlain, sqeAsync),
		script.RingPoll:  ringReceive(ringPolled, 0),
		script.RingShots: ringMultishot,
		script.Frames:    receiveFrames,
	}
}

// loose ways are made of several calls in the kernel, or of none.
func loose(how string) bool {
	return slices.Contains([]string{
		script.SendFile, script.Splice, script.Vmsplice, script.ZeroCopy, script.CopyBuf, script.Truncate, script.RingAsync,
		script.RingShots, script.Frames,
	}, how)
}

// send moves Times times Bytes, to each peer if there are some. A stream may take a part of a call; the rest goes out
// with the next.
func (p *puppet) send(c script.Command, s *socket, r *script.Reply) error {
	way, ok := sendWays()[c.How]
	if !ok {
		return fmt.Errorf("no way to send called %q", c.How)
	}
	peers, err := s.sockaddrs(c.Peers)
	if err != nil {
		return err
	}
	payload, err := p.payload(c, s)
	if err != nil {
		return err
	}
	if c.How == script.Messages && len(c.Peers) > 0 {
		return p.sendToMany(s, payload, slices.Repeat(peers, times(c)), r)
	}
	for _, to := range peers {
		for range times(c) {
			if err := p.sendAll(c, s, payload, to, way, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *puppet) sendAll(c script.Command, s *socket, rest []byte, to unix.Sockaddr, way sendWay, r *script.Reply) error {
	for {
		moves, err := way(p, s, rest, to)
		if err != nil {
			return err
		}
		// The first bytes may have given the socket its port, or (fast open) its peer.
		if s.local.Port() == 0 || s.stream() && !s.remote.IsValid() {
			if err := s.refresh(); err != nil {
				return err
			}
		}
		n := 0
		for _, m := range moves {
			n += m.bytes
			p.bookSent(c, s, to, m, r)
		}
		if rest = rest[min(n, len(rest)):]; len(rest) == 0 || !s.stream() {
			return nil
		}
	}
}

func (p *puppet) bookSent(c script.Command, s *socket, to unix.Sockaddr, m moved, r *script.Reply) {
	peer := s.remote
	switch {
	case m.peer.IsValid():
		peer = m.peer
	case to != nil:
		peer = fromSockaddr(to)
	}
	p.ledger.sent(s, peer, m.bytes, loose(c.How))
	r.Bytes, r.Calls = r.Bytes+uint64(m.bytes), r.Calls+1
}

// receive takes from a stream until Bytes have come; of datagrams Times calls, or with Bytes until so many have come.
func (p *puppet) receive(c script.Command, s *socket, r *script.Reply) error {
	way, err := p.receiveWay(c)
	if err != nil {
		return err
	}
	room := c.Room
	if room == 0 {
		room = receiveBuffer
	}
	buf := make([]byte, room)
	for i := 0; ; i++ {
		byBytes := s.stream() || c.Bytes > 0
		if byBytes && i > 0 && r.Bytes >= uint64(c.Bytes) || !byBytes && i >= times(c) {
			return nil
		}
		moves, err := way(p, s, buf, max(c.Bytes-int(r.Bytes), 1))
		if err != nil {
			return err
		}
		n := p.bookReceived(c, s, moves, r)
		if len(moves) > 1 && !byBytes {
			i += len(moves) - 1
		}
		if n == 0 && s.stream() {
			return nil
		}
	}
}

func (p *puppet) bookReceived(c script.Command, s *socket, moves []moved, r *script.Reply) (n int) {
	for _, m := range moves {
		peer := m.peer
		if s.remote.IsValid() {
			peer = s.remote
		}
		p.ledger.received(s, peer, m.bytes, loose(c.How))
		r.Bytes, r.Calls, n = r.Bytes+uint64(m.bytes), r.Calls+1, n+m.bytes
	}
	r.Mapped = p.mapped
	return n
}

// receiveWay is that of c.How; the verbs Read and RecvFrom are ways too.
func (p *puppet) receiveWay(c script.Command) (receiveWay, error) {
	switch c.Do {
	case script.Read:
		return func(_ *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
			return one(retry(func() (int, error) { return unix.Read(s.fd, buf) }))
		}, nil
	case script.RecvFrom:
		return receiveFrom, nil
	}
	way, ok := receiveWays()[c.How]
	if !ok {
		return nil, fmt.Errorf("no way to receive called %q", c.How)
	}
	return way, nil
}

// waitFor polls: no way hangs for ever, since the lab would wait for the whole time of the test.
func waitFor(fd int, events int16) error {
	polled := []unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := retry(func() (int, error) { return unix.Poll(polled, int((10 * time.Second).Milliseconds())) })
	if err == nil && n == 0 {
		return unix.ETIMEDOUT
	}
	return err
}

// sockaddrs gives one nil for a socket that knows its peer.
func (s *socket) sockaddrs(peers []string) ([]unix.Sockaddr, error) {
	if len(peers) == 0 && s.packet() {
		return []unix.Sockaddr{frameAddress(s.ifindex)}, nil
	}
	if len(peers) == 0 {
		return []unix.Sockaddr{nil}, nil
	}
	out := make([]unix.Sockaddr, len(peers))
	for i, peer := range peers {
		a, err := s.sockaddr(peer)
		if err != nil {
			return nil, err
		}
		out[i] = a
	}
	return out, nil
}
