package lab

import (
	"fmt"
	"net/netip"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

var loopback4, loopback6 = netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()

// tcpBothWays moves different amounts each way between two places.
func tcpBothWays(network string, places func(*Case) (client, server *Space, at netip.Addr)) func(*Case) {
	return func(c *Case) {
		from, to, at := places(c)
		server, client := c.Start("server", to, "serve"), c.Start("client", from, "fetch")
		address := server.Listen("l", network, at)
		client.Dial("s", network, address)
		server.Accept("l", "s")
		client.Send("s", 1000, 3)
		server.Receive("s", 3000)
		server.Send("s", 40_001, 1)
		client.Receive("s", 40_001)
		client.Finish(func(e *Expectation) { e.Direction = "out" })
		server.Finish(func(e *Expectation) { e.Direction = "in" })
		c.Check()
	}
}

func across4(c *Case) (a, b *Space, at netip.Addr) { return c.Pair.A, c.Pair.B, c.Pair.B.V4 }
func across6(c *Case) (a, b *Space, at netip.Addr) { return c.Pair.A, c.Pair.B, c.Pair.B.V6 }
func inside4(c *Case) (a, b *Space, at netip.Addr) { return c.Pair.A, c.Pair.A, loopback4 }
func inside6(c *Case) (a, b *Space, at netip.Addr) { return c.Pair.A, c.Pair.A, loopback6 }
func onHost4(c *Case) (a, b *Space, at netip.Addr) { return c.Host, c.Host, loopback4 }

// tcpMapped connects an IPv6 socket to an IPv4 address: the rows show IPv4.
func tcpMapped(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	address := netip.MustParseAddrPort(server.Listen("l", "tcp4", loopback4))
	mapped := netip.AddrPortFrom(netip.AddrFrom16(address.Addr().As16()), address.Port())
	client.Dial("s", "tcp6", mapped.String())
	server.Accept("l", "s")
	client.Send("s", 777, 1)
	server.Receive("s", 777)
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpBulk moves more than the buffers hold, in calls that take a part.
func tcpBulk(c *Case) {
	const chunk = 256 << 10
	times := Size(256, 8)
	server, client := c.Start("server", c.Pair.B), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", c.Pair.B.V4))
	server.Accept("l", "s")
	received := server.Later(script.Command{Do: script.Receive, Name: "s", Bytes: chunk * times})
	client.Send("s", chunk, times)
	received()
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpManyConnections opens connection after connection to one listener, each with an amount of its own.
func tcpManyConnections(c *Case) {
	server, client := c.Start("server", c.Pair.B), c.Start("client", c.Pair.A)
	address := server.Listen("l", "tcp4", c.Pair.B.V4)
	for i := range Size(100, 10) {
		name := fmt.Sprint("s", i)
		client.Dial(name, "tcp4", address)
		server.Accept("l", name)
		client.Send(name, 100+i, 1)
		server.Receive(name, 100+i)
		client.must(script.Command{Do: script.Close, Name: name})
		server.must(script.Command{Do: script.Close, Name: name})
	}
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpRead uses read(2), and peeks first: a byte that is only looked at does not count.
func tcpRead(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", loopback4))
	server.Accept("l", "s")
	client.Send("s", 512, 2)
	for range 3 {
		server.must(script.Command{Do: script.Peek, Name: "s"})
	}
	server.must(script.Command{Do: script.Read, Name: "s", Bytes: 1024})
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpEnd reads the end of the stream, which is no byte.
func tcpEnd(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", loopback4))
	server.Accept("l", "s")
	client.Send("s", 99, 1)
	client.Finish()
	server.Receive("s", 1000)
	server.Finish()
	c.Check()
}

// tcpRefused makes a row without bytes: an attempt that failed.
func tcpRefused(c *Case) {
	client := c.Start("client", c.Pair.A)
	local := client.Bound("free", "tcp4", loopback4) // bound but not listening: nobody else gets this port
	client.Bound("s", "tcp4", loopback4)
	r := client.Do(script.Command{Do: script.Connect, Name: "s", Address: local})
	if r.Errno != "ECONNREFUSED" {
		c.Fatalf("connect to a closed port: %q, not refused", r.Errno)
	}
	client.Finish(func(e *Expectation) { e.Result, e.Direction = "refused", "out" })
	c.Check()
}

// tcpPending connects to where nobody answers: the attempt has a row while it is still open.
func tcpPending(c *Case) {
	client := c.Start("client", c.Pair.A)
	client.Bound("s", "tcp4", c.Pair.A.V4)
	r := client.Do(script.Command{
		Do: script.Connect, Name: "s", Address: netip.AddrPortFrom(c.Pair.Blackhole4, 443).String(), Pending: true,
	})
	if r.Errno != "EINPROGRESS" {
		c.Fatalf("connect to a black hole: %q, not in progress", r.Errno)
	}
	c.Expect(client.Facts(), client.Identity(), c.Lab.Self, func(e *Expectation) { e.Result = "pending" })
	c.Check()
	client.p.discard()
	c.Relax() // the attempt is now abandoned, which may count as a failure
}

// tcpListen only listens.
func tcpListen(c *Case) {
	server := c.Start("server", c.Pair.A)
	server.Listen("l4", "tcp4", loopback4)
	server.Listen("l6", "tcp6", loopback6)
	server.Finish(func(e *Expectation) { e.Result = "listening" })
	c.Check()
}

// tcpSilent connects and accepts, and nobody says a word.
func tcpSilent(c *Case) {
	server, client := c.Start("server", c.Pair.B), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", c.Pair.B.V4))
	server.Accept("l", "s")
	client.Finish(func(e *Expectation) { e.Direction, e.Result = "out", "open" })
	server.Finish(func(e *Expectation) { e.Direction = "in" })
	c.Check()
}
