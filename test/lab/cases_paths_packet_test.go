package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// packetPaths go round the sockets of IP: frames, shared memory, devices. Some can only be reported.
func packetPaths() []scenario {
	return []scenario{
		{"packet-raw", packetBothWays("packet")},
		{"packet-dgram", packetBothWays("packet-dgram")},
		{"packet-tx-ring", packetSendRing},
		{"packet-rx-ring", packetReceiveRing},
		{"packet-no-total", packetSniffer},
		{"xdp-bind", xdpBind},
		{"tun-write", tunWrite},
		{"macvtap-write", macvtapWrite},
		{"vxlan", vxlan},
		{"wireguard", wireguard},
		{"vsock", func(c *Case) {
			fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				const local = 1 // VMADDR_CID_LOCAL; without the loopback transport there is nobody to talk to
				err = unix.Connect(fd, &unix.SockaddrVM{CID: local, Port: 1})
				_ = unix.Close(fd)
			}
			c.Feature("vsock over loopback", errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED))
			vsock(c)
		}},
	}
}

// packetPair has a socket at each end of the veth pair that hears one protocol only.
func packetPair(c *Case, network string) (a, b *Puppet) {
	c.Uneven() // a call that sends returns the link header, too, and one that receives may not
	a, b = c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	for _, p := range []*Puppet{a, b} {
		p.must(script.Command{Do: script.Socket, Name: "s", Net: network})
		p.must(script.Command{Do: script.Bind, Name: "s", Address: "lab0"})
	}
	return a, b
}

func packetBothWays(network string) func(*Case) {
	return func(c *Case) {
		a, b := packetPair(c, network)
		for i := range 3 {
			a.Send("s", 300+i, 1)
			b.Datagrams([]string{script.Receive, script.Read, script.RecvFrom}[i], "s", 1)
		}
		b.Send("s", 99, 1)
		a.Datagrams(script.Receive, "s", 1)
		a.Finish()
		b.Finish()
		c.Check()
	}
}

// packetSendRing hands frames over in shared memory; one call says how many bytes went.
func packetSendRing(c *Case) {
	a, b := packetPair(c, "packet")
	a.must(script.Command{Do: script.Send, How: script.Frames, Name: "s", Bytes: 400, Times: 3})
	b.Datagrams(script.Receive, "s", 3)
	a.Finish()
	b.Finish()
	c.Check()
}

// packetReceiveRing takes frames out of shared memory: no call moves them, so there has to be a gap that says who.
func packetReceiveRing(c *Case) {
	a, b := packetPair(c, "packet")
	b.set("s", "rx-ring")
	a.Send("s", 200, 3)
	b.must(script.Command{Do: script.Receive, How: script.Frames, Name: "s", Times: 3})
	who := b.Identity()
	a.Finish()
	b.Finish(func(e *Expectation) { e.Optional, e.AnyBytes = true, true })
	c.CheckGap(who, "ring")
	c.Check()
}

// packetSniffer sees what others exchange. That is in no total: the others' rows are exact and it has none among them.
func packetSniffer(c *Case) {
	sniffer := c.Start("sniffer", c.Pair.B)
	sniffer.must(script.Command{Do: script.Socket, Name: "s", Net: "packet"})
	sniffer.must(script.Command{Do: script.Bind, Name: "s", Address: "lab0"})
	v := newConversation(c)
	v.exchange(500)
	other := c.Start("other", c.Pair.A)
	other.must(script.Command{Do: script.Socket, Name: "s", Net: "packet"})
	other.must(script.Command{Do: script.Bind, Name: "s", Address: "lab0"})
	other.Send("s", 80, 1)
	sniffer.Datagrams(script.Receive, "s", 1)
	v.finish()
	c.Uneven()
	sniffer.Finish()
	other.Finish()
	c.Check()
}

// xdpBind binds a socket whose bytes no call moves.
func xdpBind(c *Case) {
	c.Uneven()
	p := c.Start("bypass", c.Pair.A)
	r := p.Do(script.Command{Do: script.BindXDP, Net: "lab0"})
	c.Feature("AF_XDP on veth", r.Errno == "")
	who := p.Identity()
	p.Finish()
	c.CheckGap(who, "xdp")
}

// tunWrite injects datagrams into the machine by writing to a device: the receiver's row is as any, and the writer is
// named, by a row or by a gap.
func tunWrite(c *Case) {
	c.Uneven()
	writer, taker := c.Start("writer", c.Pair.A), c.Start("taker", c.Pair.A)
	r := writer.Do(script.Command{Do: script.Tunnel, Net: "tun0"})
	c.Feature("TUN", r.Errno == "")
	inside, outside := netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("10.88.0.2")
	if err := c.Pair.A.Do(func() error { return raise("tun0", netip.PrefixFrom(inside, 24)) }); err != nil {
		c.Fatal(err)
	}
	to := taker.Bound("s", "udp4", inside)
	from := netip.AddrPortFrom(outside, 7777).String()
	writer.must(script.Command{Do: script.Inject, Address: from, Peers: []string{to}, Bytes: 1000, Times: 2})
	taker.Datagrams(script.RecvFrom, "s", 2)
	taker.Finish()
	who := writer.Identity()
	writer.Finish()
	c.CheckNamed(who, "tun")
	c.Check()
}

// macvtapWrite writes frames to a device as virtual machines have them.
func macvtapWrite(c *Case) {
	c.Uneven()
	err := c.Pair.A.Do(func() error {
		under, err := netlink.LinkByName("lab0")
		if err != nil {
			return err
		}
		attributes := netlink.LinkAttrs{Name: "labtap", ParentIndex: under.Attrs().Index}
		return netlink.LinkAdd(&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attributes, Mode: netlink.MACVLAN_MODE_BRIDGE}})
	})
	c.Feature("macvtap", !errors.Is(err, unix.EOPNOTSUPP))
	if err == nil {
		err = c.Pair.A.Do(func() error { return raise("labtap", netip.MustParsePrefix("10.87.0.1/24")) })
	}
	if err != nil {
		c.Fatal(err)
	}
	p := c.Start("machine", c.Pair.A)
	p.must(script.Command{Do: script.Tap, Bytes: 200, Times: 3})
	who := p.Identity()
	p.Finish()
	c.CheckGap(who, "macvtap")
}

// raise gives a device an address and sets it up.
func raise(name string, prefix netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	address, err := netlink.ParseAddr(prefix.String())
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("add address %s: %w", prefix, err)
	}
	return netlink.LinkSetUp(link)
}

// vxlan lets the kernel carry datagrams of processes in datagrams of its own: only the inner ones count.
func vxlan(c *Case) {
	addresses := []string{"10.99.0.1/24", "10.99.0.2/24"}
	spaces := []*Space{c.Pair.A, c.Pair.B}
	for i, s := range spaces {
		err := s.Do(func() error { return addTunnel(spaces[i].V4, spaces[1-i].V4, netip.MustParsePrefix(addresses[i])) })
		c.Feature("VXLAN", !errors.Is(err, unix.EOPNOTSUPP))
		if err != nil {
			c.Fatal(err)
		}
	}
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	a.Bound("s", "udp4", netip.MustParseAddr("10.99.0.1"))
	a.SendTo("s", 700, b.Bound("s", "udp4", netip.MustParseAddr("10.99.0.2")))
	b.Datagrams(script.RecvFrom, "s", 1)
	a.Finish()
	b.Finish()
	c.Check()
	const frame = 700 + 8 + 20 + 14 // the inner one; the outer headers come on top
	c.awaitTunnel("vxlan", c.Pair.B.V4.String(), frame+8+8+20+14)
}

// awaitTunnel waits until the kernel has a row for what it carried to a peer, of at least so many bytes.
func (c *Case) awaitTunnel(name, peer string, atLeast uint64) {
	c.Helper()
	if c.Daemon == nil {
		return
	}
	seen := map[string]uint64{}
	for end := time.Now().Add(Deadline()); seen[name+" "+peer] < atLeast; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("no row of %s to %s with %d bytes, but %v", name, peer, atLeast, seen)
		}
		rows, err := readRows(c.Context(), c.Daemon.Database(), c.filter())
		if err != nil {
			c.Logf("will ask again: %v", err)
		}
		clear(seen)
		for _, r := range rows {
			if r.Layer == "tunnel" {
				seen[r.Key.Process.Name+" "+r.Key.Raddr] += r.Sums.Sent
			}
		}
	}
}

func addTunnel(here, there netip.Addr, inner netip.Prefix) error {
	device := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: "labvx"}, VxlanId: 7, Port: 4789, SrcAddr: here.AsSlice(), Group: there.AsSlice(),
	}
	if err := netlink.LinkAdd(device); err != nil {
		return fmt.Errorf("make VXLAN device: %w", err)
	}
	return raise("labvx", inner)
}

// vsock moves bytes between two processes of this machine.
func vsock(c *Case) {
	c.Uneven()
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	server.must(script.Command{Do: script.Socket, Name: "l", Net: "vsock"})
	server.must(script.Command{Do: script.Bind, Name: "l", Address: "127.0.0.1:4711"}) // CID 1 in these clothes
	server.must(script.Command{Do: script.Listen, Name: "l"})
	client.must(script.Command{Do: script.Socket, Name: "s", Net: "vsock"})
	client.must(script.Command{Do: script.Connect, Name: "s", Address: "127.0.0.1:4711"})
	server.Accept("l", "s")
	client.Send("s", 1500, 2)
	server.Receive("s", 3000)
	client.Finish(onlyBytes, anywhere)
	server.Finish(onlyBytes, anywhere)
	c.Check()
}

// anywhere leaves open how addresses are written that are not of IP.
func anywhere(e *Expectation) {
	e.AnyAddress = true
	e.Key.Protocol, e.Key.Laddr, e.Key.Lport, e.Key.Raddr, e.Key.Rport = "", "", -1, "", -1 // all of it in one sum
}
