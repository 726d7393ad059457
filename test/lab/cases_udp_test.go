package lab

import (
	"fmt"
	"net/netip"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// udpConnected exchanges datagrams over two connected sockets.
func udpConnected(network string, places func(*Case) (a, b *Space, at netip.Addr)) func(*Case) {
	return func(c *Case) {
		from, to, at := places(c)
		here := at
		switch {
		case from == to:
		case at.Is4():
			here = from.V4
		default:
			here = from.V6
		}
		a, b := c.Start("a", from), c.Start("b", to)
		aAddress, bAddress := a.Bound("s", network, here), b.Bound("s", network, at)
		a.must(script.Command{Do: script.Connect, Name: "s", Address: bAddress})
		b.must(script.Command{Do: script.Connect, Name: "s", Address: aAddress})
		a.Send("s", 1200, 5)
		b.Datagrams(script.Receive, "s", 5)
		b.Send("s", 33, 7)
		a.Datagrams(script.Read, "s", 7)
		a.Finish()
		b.Finish()
		c.Check()
	}
}

// udpManyPeers sends from one socket to 50 peers, and each answers: every peer is a row.
func udpManyPeers(network string, at func(*Space) netip.Addr) func(*Case) {
	return func(c *Case) {
		hub, rim := c.Start("hub", c.Pair.A), c.Start("rim", c.Pair.B)
		center := hub.Bound("s", network, at(c.Pair.A))
		for i := range Size(50, 10) {
			name := fmt.Sprint("p", i)
			peer := rim.Bound(name, network, at(c.Pair.B))
			hub.SendTo("s", 100+i, peer)
			rim.Datagrams(script.RecvFrom, name, 1)
			rim.SendTo(name, 500+i, center)
			hub.Datagrams(script.RecvFrom, "s", 1)
		}
		hub.Finish()
		rim.Finish()
		c.Check()
	}
}

// udpNamelessOne receives without asking for the address. There is one peer, so it is known all the same.
func udpNamelessOne(how string) func(*Case) {
	return func(c *Case) {
		sender, taker := c.Start("sender", c.Pair.A), c.Start("taker", c.Pair.B)
		peer := netip.MustParseAddrPort(sender.Bound("s", "udp4", c.Pair.A.V4))
		sender.SendTo("s", 321, taker.Bound("s", "udp4", c.Pair.B.V4))
		taker.Datagrams(how, "s", 1)
		sender.Finish()
		taker.Finish(func(e *Expectation) { e.Key.Raddr, e.Key.Rport = peer.Addr().String(), int(peer.Port()) })
		c.Check()
	}
}

// udpNamelessMany has several peers: their split may be unknown, the sum may not.
func udpNamelessMany(c *Case) {
	sender, taker := c.Start("sender", c.Pair.A), c.Start("taker", c.Pair.B)
	address := taker.Bound("s", "udp4", c.Pair.B.V4)
	for i := range 5 {
		name := fmt.Sprint("s", i)
		sender.Bound(name, "udp4", c.Pair.A.V4)
		sender.SendTo(name, 10+i, address)
	}
	taker.Datagrams(script.Receive, "s", 5)
	sender.Finish()
	taker.Finish(func(e *Expectation) { e.AnyPeer = true })
	c.Check()
}

// udpAnyAddress leaves the local address to the kernel: the row shows what the socket shows.
func udpAnyAddress(c *Case) {
	client, server := c.Start("client", c.Pair.A), c.Start("server", c.Pair.B)
	client.must(script.Command{Do: script.Socket, Name: "s", Net: "udp4"})
	client.SendTo("s", 64, server.Bound("s", "udp4", c.Pair.B.V4))
	server.Datagrams(script.RecvFrom, "s", 1)
	client.Finish()
	server.Finish()
	c.Check()
}

// udpEmpty mixes datagrams of no byte with one of some.
func udpEmpty(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", c.Pair.A.V4)
	address := b.Bound("s", "udp4", c.Pair.B.V4)
	for _, size := range []int{0, 17, 0} {
		a.SendTo("s", size, address)
		b.Datagrams(script.RecvFrom, "s", 1)
	}
	a.Finish()
	b.Finish()
	c.Check()
}

// udpPeek looks at a datagram three times and takes it once.
func udpPeek(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", c.Pair.A.V4)
	a.SendTo("s", 250, b.Bound("s", "udp4", c.Pair.B.V4))
	for range 3 {
		b.must(script.Command{Do: script.Peek, Name: "s"})
	}
	b.Datagrams(script.RecvFrom, "s", 1)
	a.Finish()
	b.Finish()
	c.Check()
}
