package lab

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// rawPaths are the ways below TCP and UDP that still have addresses, and SCTP beside them.
func rawPaths() []scenario {
	return []scenario{
		{"icmp-ping", pings("ping4", v4Of)},
		{"icmpv6-ping", pings("ping6", v6Of)},
		{"icmp-ping-connected", pingConnected},
		{"icmp-raw", pings(fmt.Sprint("raw4:", unix.IPPROTO_ICMP), v4Of)},
		{"icmpv6-raw", pings(fmt.Sprint("raw6:", unix.IPPROTO_ICMPV6), v6Of)},
		{"raw4", rawBothWays("raw4:253", v4Of, 0)},
		{"raw6", rawBothWays("raw6:253", v6Of, 0)},
		{"raw4-header", rawBothWays("raw4:253", v4Of, 20)},
		{"raw6-header", rawBothWays("raw6:253", v6Of, 40)},
		{"raw4-udp", rawBothWays(fmt.Sprint("raw4:", unix.IPPROTO_UDP), v4Of, 0)},
		{"raw6-udp", rawBothWays(fmt.Sprint("raw6:", unix.IPPROTO_UDP), v6Of, 0)},
		{"raw4-connected", rawConnected},
		{"raw4-nameless", rawNameless},
		{"sctp4", needSCTP(tcpBothWays("sctp4", across4))},
		{"sctp6", needSCTP(tcpBothWays("sctp6", across6))},
		{"sctp4-many", needSCTP(sctpMany)},
		{"unix-and-netlink", noRows},
	}
}

func v4Of(s *Space) netip.Addr { return s.V4 }
func v6Of(s *Space) netip.Addr { return s.V6 }

// pings sends echo requests; the kernel at the other end answers.
func pings(network string, at func(*Space) netip.Addr) func(*Case) {
	return func(c *Case) {
		c.allow("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
		c.Uneven() // nobody sends the answers
		a := c.Start("pinger", c.Pair.A)
		a.Bound("s", network, at(c.Pair.A))
		if network == fmt.Sprint("raw6:", unix.IPPROTO_ICMPV6) {
			a.set("s", "echo-only")
		}
		to := netip.AddrPortFrom(at(c.Pair.B), 0).String()
		for i := range 3 {
			a.SendTo("s", 64+8*i, to)
			a.Datagrams(script.RecvFrom, "s", 1)
		}
		a.Finish()
		c.Check()
	}
}

// pingConnected reads answers without asking who they are from.
func pingConnected(c *Case) {
	c.allow("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
	c.Uneven()
	a := c.Start("pinger", c.Pair.A)
	a.Bound("s", "ping4", c.Pair.A.V4)
	a.must(script.Command{Do: script.Connect, Name: "s", Address: netip.AddrPortFrom(c.Pair.B.V4, 0).String()})
	a.Send("s", 72, 2)
	a.Datagrams(script.Receive, "s", 2)
	a.Finish()
	c.Check()
}

// rawBothWays exchanges packets of protocol 253. The sender may write the IP header itself: then it counts, as the call
// does; of IPv4 it counts for every receiver.
func rawBothWays(network string, at func(*Space) netip.Addr, header int) func(*Case) {
	return func(c *Case) {
		c.Uneven()
		a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
		for i, p := range []*Puppet{a, b} {
			p.Bound("s", network, at([]*Space{c.Pair.A, c.Pair.B}[i]))
			if header > 0 {
				p.set("s", "header")
			}
		}
		for i := range 3 {
			a.SendTo("s", header+100+i, netip.AddrPortFrom(at(c.Pair.B), 0).String())
			b.Datagrams(script.RecvFrom, "s", 1)
		}
		b.SendTo("s", header+500, netip.AddrPortFrom(at(c.Pair.A), 0).String())
		a.Datagrams(script.RecvFrom, "s", 1)
		a.Finish()
		b.Finish()
		c.Check()
	}
}

func rawConnected(c *Case) {
	c.Uneven()
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "raw4:253", c.Pair.A.V4)
	b.Bound("s", "raw4:253", c.Pair.B.V4)
	a.must(script.Command{Do: script.Connect, Name: "s", Address: netip.AddrPortFrom(c.Pair.B.V4, 0).String()})
	a.Send("s", 120, 3)
	b.Datagrams(script.RecvFrom, "s", 3)
	a.Finish()
	b.Finish()
	c.Check()
}

// rawNameless receives without asking for the address: the packet itself tells.
func rawNameless(c *Case) {
	c.Uneven()
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "raw4:253", c.Pair.A.V4)
	b.Bound("s", "raw4:253", c.Pair.B.V4)
	a.must(script.Command{
		Do: script.SendTo, Name: "s", Bytes: 90, Times: 2, Peers: []string{netip.AddrPortFrom(c.Pair.B.V4, 0).String()},
	})
	b.Datagrams(script.Receive, "s", 1)
	b.Datagrams(script.Read, "s", 1)
	a.Finish()
	b.Finish(peerIs(netip.AddrPortFrom(c.Pair.A.V4, 0)))
	c.Check()
}

// needSCTP runs a case where the kernel knows SCTP, which may be a module.
func needSCTP(run func(*Case)) func(*Case) {
	return func(c *Case) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err == nil {
			_ = unix.Close(fd)
		}
		c.Feature("SCTP", err == nil)
		run(c)
	}
}

// sctpMany uses one socket for many associations: each peer is its own row.
func sctpMany(c *Case) {
	hub, rim := c.Start("hub", c.Pair.A), c.Start("rim", c.Pair.B)
	center := hub.Bound("s", "sctp4-many", c.Pair.A.V4)
	hub.must(script.Command{Do: script.Listen, Name: "s"})
	for i := range 3 {
		name := fmt.Sprint("p", i)
		peer := rim.Bound(name, "sctp4-many", c.Pair.B.V4)
		rim.must(script.Command{Do: script.Listen, Name: name})
		rim.SendTo(name, 100+i, center)
		hub.Datagrams(script.RecvFrom, "s", 1)
		hub.SendTo("s", 300+i, peer)
		rim.Datagrams(script.RecvFrom, name, 1)
	}
	// How often associations are opened, and by whom, is not compared.
	hub.Finish(onlyBytes)
	rim.Finish(onlyBytes)
	c.Check()
}

func onlyBytes(e *Expectation) { e.AnyStates = true }

// noRows talks over sockets that reach no network; one exchange beside it proves that somebody watches.
func noRows(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	client.must(script.Command{Do: script.Chatter, Bytes: 1000, Times: 20})
	talk(server, client, "s", 12)
	client.must(script.Command{Do: script.Chatter, Bytes: 1000, Times: 20})
	client.Finish()
	server.Finish()
	c.Check()
}
