package canary

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// closedPort is where nobody listens: the namespace is ours alone.
const closedPort = 1

// exchange moves one round of messages, each one way.
func (s *sockets) exchange() error {
	for _, way := range [][2]endpoint{{s.client, s.server}, {s.server, s.client}} {
		if err := write(way[0], netip.AddrPort{}); err != nil {
			return err
		}
		if err := read(way[1], false); err != nil {
			return err
		}
	}
	for _, t := range s.trios {
		if err := t.exchange(); err != nil {
			return err
		}
	}
	nowhere := netip.AddrPortFrom(s.refused.address.Addr(), closedPort)
	err := again(func() error { return unix.Connect(s.refused.fd, sockaddr(nowhere)) })
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("connect to a closed port: %w", errors.Join(err, errNotRefused))
	}
	return nil
}

var (
	errNotRefused = errors.New("it was not refused")
	errOther      = errors.New("it is not what was sent")
)

func (t trio) exchange() error {
	return errors.Join(
		write(t.speaker, t.asker.address), write(t.silent, t.asker.address), write(t.speaker, t.silent.address),
		read(t.asker, true), read(t.asker, true), read(t.silent, false),
	)
}

// write sends one message, to an address if the socket has no peer.
func write(e endpoint, to netip.AddrPort) error {
	err := again(func() error {
		if to.IsValid() {
			return unix.Sendto(e.fd, []byte(payload), unix.MSG_NOSIGNAL, sockaddr(to))
		}
		return unix.Send(e.fd, []byte(payload), unix.MSG_NOSIGNAL)
	})
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// read receives one message, asking where it comes from or not.
func read(e endpoint, ask bool) error {
	buffer := make([]byte, 2*len(payload))
	var n int
	err := again(func() (err error) {
		if ask {
			n, _, err = unix.Recvfrom(e.fd, buffer, 0)
		} else {
			n, err = unix.Read(e.fd, buffer)
		}
		return err
	})
	if err == nil && string(buffer[:n]) != payload {
		err = errOther
	}
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// want is what a window must show of one socket, in all or of one peer.
type want struct {
	cookie   uint64
	peer     netip.AddrPort // invalid: whatever the peer
	sums     sums
	missing  sense // where less was sent or connected
	received sense // where less was received
}

// wants tells what one exchange must show. Peers are asked for only where the bytes were seen: see blind.
func (s *sockets) wants() []want {
	const one = uint64(len(payload))
	each := func(e endpoint, sent, got uint64) want {
		return want{cookie: e.cookie, sums: sums{sent: sent * one, received: got * one}, missing: sends, received: receives}
	}
	list := []want{
		each(s.client, 1, 1), each(s.server, 1, 1),
		{cookie: s.refused.cookie, sums: sums{connects: 1}, missing: states, received: states},
	}
	for _, t := range s.trios {
		list = append(list, each(t.speaker, 2, 0), each(t.silent, 1, 1), each(t.asker, 0, 2))
		peer := func(e, other endpoint, sent, got uint64, received sense) want {
			w := each(e, sent, got)
			w.peer, w.missing, w.received = other.address, t.sent, received
			return w
		}
		list = append(list,
			peer(t.speaker, t.asker, 1, 0, t.received), peer(t.speaker, t.silent, 1, 0, t.received),
			peer(t.silent, t.asker, 1, 0, t.received), peer(t.silent, t.speaker, 0, 1, peersDelivered),
			peer(t.asker, t.speaker, 0, 1, t.received), peer(t.asker, t.silent, 0, 1, t.received),
		)
	}
	return list
}
