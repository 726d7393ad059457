package lab

import (
	"net/netip"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// udpPaths are the ways of datagrams.
func udpPaths() []scenario {
	return []scenario{
		{"udp-sendmmsg-peers", udpManyAtOnce("udp4", func(s *Space) netip.Addr { return s.V4 })},
		{"udp6-sendmmsg-peers", udpManyAtOnce("udp6", func(s *Space) netip.Addr { return s.V6 })},
		{"udp-mapped", udpMapped},
		{"udp-gso", udpSegments(false)},
		{"udp-gro", udpSegments(true)},
		{"udp-msg-more", udpMore},
		{"udp-cork", udpCork},
		{"udp-cork-elsewhere", udpCorkElsewhere("udp4", v4Of)},
		{"udp6-cork-elsewhere", udpCorkElsewhere("udp6", v6Of)},
		{"udp-truncated", udpTruncated("")},
		{"udp-msg-trunc", udpTruncated(script.Truncate)},
		{"udp-errqueue", udpErrorQueue},
		{"udp-multicast4", udpMulticast("udp4", "239.7.7.7", func(s *Space) netip.Addr { return s.V4 })},
		{"udp-multicast6", udpMulticast("udp6", "ff15::77", func(s *Space) netip.Addr { return s.V6 })},
		{"udp-connected-elsewhere", udpElsewhere},
		{"udp-reconnected", udpReconnected},
		{"udp-reconnected-port", reconnected("udp4")},
		{"udp-port-0", udpPortZero},
		{"udp-zerocopy", udpZeroCopy},
	}
}

// udpManyAtOnce sends to six peers by one sendmmsg(2); they answer, and recvmmsg(2) takes several.
func udpManyAtOnce(network string, at func(*Space) netip.Addr) func(*Case) {
	return func(c *Case) {
		hub, rim := c.Start("hub", c.Pair.A), c.Start("rim", c.Pair.B)
		center := hub.Bound("s", network, at(c.Pair.A))
		var peers []string
		names := []string{"a", "b", "c", "d", "e", "f"}
		for _, name := range names {
			peers = append(peers, rim.Bound(name, network, at(c.Pair.B)))
		}
		hub.must(script.Command{Do: script.SendTo, How: script.Messages, Name: "s", Bytes: 210, Times: 2, Peers: peers})
		for i, name := range names {
			rim.must(script.Command{Do: script.Receive, How: script.Messages, Name: name, Times: 2})
			rim.SendTo(name, 40+i, center)
		}
		hub.must(script.Command{Do: script.Receive, How: script.Messages, Name: "s", Times: 6})
		hub.Finish()
		rim.Finish()
		c.Check()
	}
}

// udpMapped sends from an IPv6 socket to an IPv4 address, connected and not: the rows show IPv4.
func udpMapped(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	peer := netip.MustParseAddrPort(b.Bound("s", "udp4", c.Pair.B.V4))
	mapped := netip.AddrPortFrom(netip.AddrFrom16(peer.Addr().As16()), peer.Port()).String()
	from := netip.AddrFrom16(c.Pair.A.V4.As16())
	a.Bound("to", "udp6", from)
	a.SendTo("to", 70, mapped)
	b.Datagrams(script.RecvFrom, "s", 1)
	here := a.Bound("s", "udp6", from)
	a.must(script.Command{Do: script.Connect, Name: "s", Address: mapped})
	a.Send("s", 80, 2)
	b.Datagrams(script.RecvFrom, "s", 2)
	b.SendTo("s", 90, here)
	a.Datagrams(script.RecvFrom, "s", 1)
	a.Finish()
	b.Finish()
	c.Check()
}

// udpSegments lets one call send ten datagrams; with gro one call may also receive several.
func udpSegments(gro bool) func(*Case) {
	return func(c *Case) {
		a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.A)
		a.Bound("s", "udp4", loopback4)
		peer := b.Bound("s", "udp4", loopback4)
		a.set("s", "gso=100")
		if gro {
			b.set("s", "gro=1")
		}
		a.must(script.Command{Do: script.SendTo, Name: "s", Bytes: 1000, Times: 3, Peers: []string{peer}})
		b.must(script.Command{Do: script.RecvFrom, Name: "s", Bytes: 3000})
		a.Finish()
		b.Finish()
		c.Check()
	}
}

// udpMore makes one datagram of three calls, of which the first names the peer.
func udpMore(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", c.Pair.A.V4)
	peer := b.Bound("s", "udp4", c.Pair.B.V4)
	a.must(script.Command{Do: script.SendTo, How: script.More, Name: "s", Bytes: 100, Times: 2, Peers: []string{peer}})
	a.SendTo("s", 50, peer)
	b.Datagrams(script.RecvFrom, "s", 1)
	a.Finish()
	b.Finish()
	c.Check()
}

// udpCork collects calls on a connected socket until the cork is drawn.
func udpCork(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", c.Pair.A.V4)
	a.must(script.Command{Do: script.Connect, Name: "s", Address: b.Bound("s", "udp4", c.Pair.B.V4)})
	a.set("s", "cork=1")
	a.Send("s", 111, 3)
	a.set("s", "cork=0")
	b.Datagrams(script.RecvFrom, "s", 1)
	a.Finish()
	b.Finish()
	c.Check()
}

// udpCorkElsewhere has a peer and begins a datagram to another, which then gets what was sent to nobody in particular. The
// row of that must not name the peer, who gets nothing.
func udpCorkElsewhere(network string, at func(*Space) netip.Addr) func(*Case) {
	return func(c *Case) {
		a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
		a.Bound("s", network, at(c.Pair.A))
		home, away := b.Bound("home", network, at(c.Pair.B)), b.Bound("away", network, at(c.Pair.B))
		a.must(script.Command{Do: script.Connect, Name: "s", Address: home})
		a.must(script.Command{Do: script.SendTo, How: script.More, Name: "s", Bytes: 1, Peers: []string{away}})
		a.Send("s", 1000, 1)
		if r := b.must(script.Command{Do: script.RecvFrom, Name: "away"}); r.Bytes != 1001 {
			c.Fatalf("%d bytes came, not 1001: the case does not show what it shall", r.Bytes)
		}
		nobody := func(e *Expectation) {
			if e.Key.Rport == port(netip.MustParseAddrPort(home)) {
				e.Key.Raddr, e.Key.Rport = "", -1
			}
		}
		a.Finish(nobody)
		b.Finish()
		c.Check()
	}
}

// udpTruncated receives into too little room: what counts is what the call says.
func udpTruncated(how string) func(*Case) {
	return func(c *Case) {
		a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
		from := netip.MustParseAddrPort(a.Bound("s", "udp4", c.Pair.A.V4))
		a.must(script.Command{Do: script.SendTo, Name: "s", Bytes: 400, Times: 3, Peers: []string{b.Bound("s", "udp4", c.Pair.B.V4)}})
		r := b.must(script.Command{Do: script.Receive, How: how, Name: "s", Times: 3, Room: 64})
		if want := map[string]uint64{"": 192, script.Truncate: 1200}[how]; r.Bytes != want {
			c.Fatalf("receiving said %d bytes, not %d", r.Bytes, want)
		}
		c.Uneven()
		a.Finish()
		b.Finish(peerIs(from))
		c.Check()
	}
}

// peerIs sets the peer of receives that did not ask for it.
func peerIs(a netip.AddrPort) func(*Expectation) {
	return func(e *Expectation) { e.Key.Raddr, e.Key.Rport = a.Addr().String(), port(a) }
}

// udpErrorQueue gets its own datagram back with an error: that is not received.
func udpErrorQueue(c *Case) {
	a := c.Start("a", c.Pair.A)
	closed := a.Bound("closed", "udp4", loopback4)
	a.must(script.Command{Do: script.Close, Name: "closed"})
	a.Bound("s", "udp4", loopback4)
	a.set("s", "recverr=1")
	a.must(script.Command{Do: script.Connect, Name: "s", Address: closed})
	a.Send("s", 222, 1)
	if r := a.must(script.Command{Do: script.ErrQueue, Name: "s"}); r.Bytes != 222 {
		c.Fatalf("the error queue gave %d bytes, not 222", r.Bytes)
	}
	c.Uneven()
	a.Finish()
	c.Check()
}

// udpMulticast sends to a group that two sockets have joined.
func udpMulticast(network, group string, at func(*Space) netip.Addr) func(*Case) {
	return func(c *Case) {
		a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
		everywhere := map[string]netip.Addr{"udp4": netip.IPv4Unspecified(), "udp6": netip.IPv6Unspecified()}[network]
		to := netip.MustParseAddrPort(b.Bound("s", network, everywhere))
		b.set("s", "join="+group+"@lab0")
		a.Bound("s", network, at(c.Pair.A))
		a.set("s", "through=lab0")
		a.SendTo("s", 99, netip.AddrPortFrom(netip.MustParseAddr(group), to.Port()).String())
		b.Datagrams(script.RecvFrom, "s", 1)
		a.Finish()
		b.Finish()
		c.Check()
	}
}

// udpElsewhere has a peer and sends to another.
func udpElsewhere(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", c.Pair.A.V4)
	home, away := b.Bound("home", "udp4", c.Pair.B.V4), b.Bound("away", "udp4", c.Pair.B.V4)
	a.must(script.Command{Do: script.Connect, Name: "s", Address: home})
	a.Send("s", 10, 1)
	a.SendTo("s", 200, away)
	a.Send("s", 30, 1)
	b.Datagrams(script.RecvFrom, "home", 2)
	b.Datagrams(script.RecvFrom, "away", 1)
	a.Finish()
	b.Finish()
	c.Check()
}

// udpReconnected changes the peer of a connected socket.
func udpReconnected(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	here := a.Bound("s", "udp4", c.Pair.A.V4)
	for i, name := range []string{"x", "y", "z"} {
		a.must(script.Command{Do: script.Connect, Name: "s", Address: b.Bound(name, "udp4", c.Pair.B.V4)})
		a.Send("s", 100+i, 1)
		b.Datagrams(script.RecvFrom, name, 1)
		b.SendTo(name, 400+i, here)
		a.Datagrams(script.RecvFrom, "s", 1)
	}
	a.Finish()
	b.Finish()
	c.Check()
}

// udpPortZero does what resolvers do to sort addresses: connects to port 0 and says nothing. That makes no row.
func udpPortZero(c *Case) {
	a := c.Start("a", c.Pair.A)
	a.must(script.Command{Do: script.Socket, Name: "s", Net: "udp4"})
	a.must(script.Command{Do: script.Connect, Name: "s", Address: netip.AddrPortFrom(c.Pair.B.V4, 0).String()})
	a.Bound("t", "udp4", c.Pair.A.V4)
	b := c.Start("b", c.Pair.B)
	a.SendTo("t", 5, b.Bound("s", "udp4", c.Pair.B.V4))
	b.Datagrams(script.RecvFrom, "s", 1)
	a.Finish()
	b.Finish()
	c.Check()
}

// udpZeroCopy lends pages to datagrams.
func udpZeroCopy(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", c.Pair.A.V4)
	peer := b.Bound("s", "udp4", c.Pair.B.V4)
	a.must(script.Command{Do: script.SendTo, How: script.ZeroCopy, Name: "s", Bytes: 1300, Times: 3, Peers: []string{peer}})
	b.Datagrams(script.RecvFrom, "s", 3)
	a.Finish()
	b.Finish()
	c.Check()
}
