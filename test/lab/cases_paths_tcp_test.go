package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// stream moves bytes over a connection, one chunk after the other, by one way to send and one to receive. The answer is
// plain: a path must not spoil what comes after it.
type stream struct {
	network          string // tcp4 if empty
	send, receive    string // ways
	bytes, times     int
	across           bool     // over the veth pair instead of loopback
	clientSet        []string // options after connecting
	listenSet        []string // options before listening
	serverSet        []string // options after accepting
	clientFix, fixed bool     // the client's, the server's socket is a ring's file
}

func (s stream) run(c *Case) {
	client, server := s.connect(c)
	for range s.times {
		client.must(script.Command{Do: script.Send, How: s.send, Name: "s", Bytes: s.bytes})
		server.must(script.Command{Do: script.Receive, How: s.receive, Name: "s", Bytes: s.bytes})
	}
	if !s.clientFix && !s.fixed {
		server.Send("s", 33, 1)
		client.Receive("s", 33)
	}
	client.Finish(func(e *Expectation) { e.Direction = "out" })
	server.Finish(func(e *Expectation) { e.Direction = "in" })
	c.Check()
}

func (s stream) connect(c *Case) (client, server *Puppet) {
	from, to, at := c.Pair.A, c.Pair.A, loopback4
	if s.across {
		to, at = c.Pair.B, c.Pair.B.V4
	}
	network := s.network
	if network == "" {
		network = "tcp4"
	}
	server, client = c.Start("server", to), c.Start("client", from)
	address := server.Bound("l", network, at)
	server.set("l", s.listenSet...)
	server.must(script.Command{Do: script.Listen, Name: "l"})
	client.Dial("s", network, address)
	server.Accept("l", "s")
	client.set("s", s.clientSet...)
	server.set("s", s.serverSet...)
	if s.clientFix {
		client.must(script.Command{Do: script.Fix, Name: "s"})
	}
	if s.fixed {
		server.must(script.Command{Do: script.Fix, Name: "s"})
	}
	return client, server
}

// set sets options of a socket, word or word=value each.
func (p *Puppet) set(name string, options ...string) {
	p.c.Helper()
	for _, option := range options {
		p.must(script.Command{Do: script.Set, Name: name, Option: option})
	}
}

// tcpPaths are the ways of a stream's bytes that need nothing but another call.
func tcpPaths() []scenario {
	return []scenario{
		{"tcp-writev-readv", stream{send: script.Vector, receive: script.Vector, bytes: 3001, times: 3}.run},
		{"tcp-sendmsg-recvmsg", stream{send: script.Message, receive: script.Message, bytes: 3001, times: 3}.run},
		{"tcp-sendmmsg", stream{send: script.Messages, bytes: 4000, times: 3}.run},
		{"tcp-msg-trunc", stream{receive: script.Truncate, bytes: 5000, times: 3}.run},
		{"tcp-msg-waitall", stream{receive: script.WaitAll, bytes: 40_000, times: 2, across: true}.run},
		{"tcp-msg-more", stream{send: script.More, receive: script.WaitAll, bytes: 700, times: 2}.run},
		{"tcp-peek-offset", tcpPeekOffset},
		{"tcp-urgent", tcpUrgent(false, true)},
		{"tcp-urgent-unread", tcpUrgent(false, false)},
		{"tcp-urgent-inline", tcpUrgent(true, false)},
		{"tcp-reconnected", reconnected("tcp4")},
		{"tcp-errqueue", tcpErrorQueue},
		{"tcp-fastopen", tcpFastOpen(false)},
		{"tcp-fastopen-connect", tcpFastOpen(true)},
		{"tcp-sendfile", stream{send: script.SendFile, bytes: 50_000, times: 3, across: true}.run},
		{"tcp-splice-out", stream{send: script.Splice, bytes: 20_000, times: 3, across: true}.run},
		{"tcp-splice-in", stream{receive: script.Splice, bytes: 20_000, times: 3, across: true}.run},
		{"tcp-splice-both", stream{send: script.Splice, receive: script.Splice, bytes: 9_999, times: 3}.run},
		{"tcp-vmsplice", stream{send: script.Vmsplice, bytes: 12_288, times: 3}.run},
		{"tcp-zerocopy-send", stream{send: script.ZeroCopy, bytes: 40_000, times: 3, across: true}.run},
		{"tcp-zerocopy-receive-mapped", tcpMappedReceive},
		{"tcp-zerocopy-receive-copied", stream{receive: script.CopyBuf, bytes: 3000, times: 3}.run},
		{"tcp-mixed-receive", tcpMixed},
		{"mptcp4", needMPTCP(stream{network: "mptcp4", bytes: 3000, times: 3, across: true}.run)},
		{"mptcp6", needMPTCP(tcpBothWays("mptcp6", across6))},
		{"mptcp-fallback", needMPTCP(mptcpFallback)},
		{"mptcp-sendfile-splice", needMPTCP(stream{
			network: "mptcp4", send: script.SendFile, receive: script.Splice, bytes: 50_000, times: 3, across: true,
		}.run)},
		{"ktls", tcpEncrypted("", "")},
		{"ktls-sendfile-splice", tcpEncrypted(script.SendFile, script.Splice)},
		{"socket-passed", socketPassed},
		{"socket-taken", socketTaken},
	}
}

// ringPaths are io_uring's.
func ringPaths() []scenario {
	paths := []scenario{
		{"uring-send-recv", stream{send: script.Ring, receive: script.Ring, bytes: 3000, times: 3}.run},
		{"uring-worker", stream{send: script.RingAsync, receive: script.RingAsync, bytes: 3000, times: 3}.run},
		{"uring-sqpoll", stream{send: script.RingPoll, receive: script.RingPoll, bytes: 3000, times: 3}.run},
		{"uring-send-zc", stream{send: script.RingZC, bytes: 30_000, times: 3, across: true}.run},
		{"uring-recv-multishot", stream{receive: script.RingShots, bytes: 20_000, times: 2, across: true}.run},
		{"uring-direct", stream{send: script.Ring, receive: script.Ring, bytes: 2500, times: 3, clientFix: true, fixed: true}.run},
		{"uring-udp", ringDatagrams},
		{"uring-recv-zc", func(c *Case) { c.Feature("NIC with header split (io_uring zero-copy receive)", false) }},
	}
	for i, s := range paths {
		paths[i].run = func(c *Case) {
			raw, err := os.ReadFile("/proc/sys/kernel/io_uring_disabled") // came with 6.6
			c.Feature("io_uring", err != nil || len(raw) > 0 && raw[0] == '0')
			s.run(c)
		}
	}
	return paths
}

// tcpPeekOffset looks at a stream piece by piece, then takes it.
func tcpPeekOffset(c *Case) {
	client, server := stream{}.connect(c)
	r := server.Do(script.Command{Do: script.Set, Name: "s", Option: "peekoff=0"})
	c.Feature("SO_PEEK_OFF of TCP", r.Errno != "ENOTSUP") // came with 6.9
	server.set("s", "peekoff=0")
	client.Send("s", 1500, 1)
	for range 2 {
		server.must(script.Command{Do: script.Peek, Name: "s"})
		client.Send("s", 200, 1)
	}
	server.Receive("s", 1900)
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpUrgent sends an urgent byte between two others of ten.
func tcpUrgent(inline, read bool) func(*Case) {
	return func(c *Case) {
		var options []string
		if inline {
			options = []string{"oobinline=1"}
		}
		client, server := stream{serverSet: options}.connect(c)
		client.Send("s", 10, 1)
		client.must(script.Command{Do: script.Send, How: script.Urgent, Name: "s", Bytes: 1})
		client.Send("s", 10, 1)
		rest := 20
		switch {
		case inline:
			rest = 21
		case read:
			server.must(script.Command{Do: script.Receive, How: script.Urgent, Name: "s", Bytes: 1})
		}
		server.Receive("s", rest)
		client.Send("s", 5, 1)
		server.Receive("s", 5)
		if !inline && !read {
			c.Uneven() // the urgent byte is lost to the receiver
		}
		client.Finish()
		server.Finish()
		c.Check()
	}
}

// reconnected connects one socket to one peer again and again, from another port each time: each is a row.
func reconnected(network string) func(*Case) {
	return func(c *Case) {
		a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
		peer := b.Bound("l", network, c.Pair.B.V4)
		if network == "tcp4" {
			b.must(script.Command{Do: script.Listen, Name: "l"})
		}
		a.must(script.Command{Do: script.Socket, Name: "s", Net: network})
		for i := range 3 {
			a.must(script.Command{Do: script.Connect, Name: "s", Address: peer})
			a.Send("s", 100+i, 1)
			if network == "tcp4" {
				b.Accept("l", fmt.Sprint(i))
				b.Receive(fmt.Sprint(i), 100+i)
			} else {
				b.Datagrams(script.RecvFrom, "l", 1)
			}
			a.must(script.Command{Do: script.Detach, Name: "s"})
		}
		a.Finish()
		b.Finish()
		c.Check()
	}
}

// tcpErrorQueue takes a notification of a zero-copy send by itself, which must not count as a receive.
func tcpErrorQueue(c *Case) {
	stream{send: script.ZeroCopy, bytes: 100, times: 5}.run(c)
}

// tcpFastOpen sends the first bytes with the connect: by sendto, or by a write after a connect that waits for it.
func tcpFastOpen(deferred bool) func(*Case) {
	return func(c *Case) {
		c.allow("/proc/sys/net/ipv4/tcp_fastopen", "1543") // client and server, without cookies
		server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
		address := server.Bound("l", "tcp4", loopback4)
		server.set("l", "fastopen=16")
		server.must(script.Command{Do: script.Listen, Name: "l"})
		client.must(script.Command{Do: script.Socket, Name: "s", Net: "tcp4"})
		if deferred {
			client.set("s", "fastopenconnect=1")
			client.must(script.Command{Do: script.Connect, Name: "s", Address: address})
			client.Send("s", 600, 1)
		} else {
			client.must(script.Command{Do: script.FastOpen, Name: "s", Address: address, Bytes: 600})
		}
		server.Accept("l", "s")
		server.Receive("s", 600)
		client.Send("s", 77, 1)
		server.Receive("s", 77)
		client.Finish()
		server.Finish()
		c.Check()
	}
}

// allow sets a sysctl of both namespaces.
func (c *Case) allow(path, value string) {
	c.Helper()
	for _, s := range []*Space{c.Pair.A, c.Pair.B} {
		if err := s.Do(func() error { return os.WriteFile(path, []byte(value), 0o644) }); err != nil {
			c.Fatal(err)
		}
	}
}

// tcpMappedReceive gets whole pages mapped, and the rest copied.
func tcpMappedReceive(c *Case) {
	const pages = 8 * 4096
	client, server := stream{}.connect(c)
	mapped := uint64(0)
	for _, rest := range []int{0, 700, 0} {
		client.must(script.Command{Do: script.Send, How: script.ZeroCopy, Name: "s", Bytes: pages + rest})
		r := server.must(script.Command{Do: script.Receive, How: script.ZeroCopy, Name: "s", Bytes: pages + rest})
		mapped = r.Mapped
	}
	if mapped < pages {
		c.Fatalf("only %d bytes were mapped: the case does not show what it shall", mapped)
	}
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpMixed changes the way to receive on one connection: what one way counts, the next must not count again.
func tcpMixed(c *Case) {
	client, server := stream{across: true}.connect(c)
	ways := []string{"", script.Splice, script.Truncate, script.Splice, script.Message, script.ZeroCopy, script.Vector}
	for i, how := range ways {
		client.Send("s", 1000+i, 1)
		server.must(script.Command{Do: script.Receive, How: how, Name: "s", Bytes: 1000 + i})
	}
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpEncrypted lets the kernel encrypt: what counts is the plain text, as the calls say.
func tcpEncrypted(send, receive string) func(*Case) {
	return func(c *Case) {
		client, server := stream{across: true}.connect(c)
		r := client.Do(script.Command{Do: script.Set, Name: "s", Option: "tls"})
		c.Feature("kTLS", r.Errno == "")
		server.set("s", "tls")
		for i := range 3 {
			n := 5000 + i
			client.must(script.Command{Do: script.Send, How: send, Name: "s", Bytes: n})
			server.must(script.Command{Do: script.Receive, How: receive, Name: "s", Bytes: n})
		}
		server.Send("s", 44, 1)
		client.Receive("s", 44)
		client.Finish()
		server.Finish()
		c.Check()
	}
}

func needMPTCP(run func(*Case)) func(*Case) {
	return func(c *Case) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
		if err == nil {
			_ = unix.Close(fd)
		}
		c.Feature("MPTCP", err == nil)
		run(c)
	}
}

// mptcpFallback talks to a server that knows TCP alone.
func mptcpFallback(c *Case) {
	server, client := c.Start("server", c.Pair.B), c.Start("client", c.Pair.A)
	client.Dial("s", "mptcp4", server.Listen("l", "tcp4", c.Pair.B.V4))
	server.Accept("l", "s")
	client.Send("s", 2222, 2)
	server.Receive("s", 4444)
	server.Send("s", 11, 1)
	client.Receive("s", 11)
	client.Finish()
	server.Finish()
	c.Check()
}

// socketPassed gives a connection to another program, which goes on with it; so does the first.
func socketPassed(c *Case) {
	client, server := stream{}.connect(c)
	heir := c.Start("heir", c.Pair.A, "inherited")
	box := c.dir + "/box"
	heir.must(script.Command{Do: script.Mailbox, Path: box})
	client.must(script.Command{Do: script.Give, Name: "s", Path: box})
	heir.must(script.Command{Do: script.Take, As: "s", Net: "tcp4"})
	c.shareConnection(client, heir, server)
}

// socketTaken lets another program take a connection without asking.
func socketTaken(c *Case) {
	client, server := stream{}.connect(c)
	thief := c.Start("thief", c.Pair.A)
	r := client.must(script.Command{Do: script.Send, Name: "s", Bytes: 1})
	server.Receive("s", 1)
	pid := client.Facts().Process.Pid
	thief.must(script.Command{Do: script.Grab, As: "s", Net: "tcp4", Pid: pid, FD: r.FD})
	c.shareConnection(client, thief, server)
}

func (c *Case) shareConnection(first, second, server *Puppet) {
	c.Helper()
	for i, p := range []*Puppet{first, second, first} {
		p.Send("s", 1000*(i+1), 1)
		server.Receive("s", 1000*(i+1))
		server.Send("s", 10+i, 1)
		p.Receive("s", 10+i)
	}
	first.Finish()
	second.Finish()
	server.Finish()
	c.Check()
}

// ringDatagrams names the peer of each datagram by io_uring's sendmsg.
func ringDatagrams(c *Case) {
	a, b := c.Start("a", c.Pair.A), c.Start("b", c.Pair.B)
	here := a.Bound("s", "udp4", c.Pair.A.V4)
	for i, name := range []string{"x", "y"} {
		peer := b.Bound(name, "udp4", c.Pair.B.V4)
		a.must(script.Command{Do: script.SendTo, How: script.Ring, Name: "s", Bytes: 100 + i, Times: 2, Peers: []string{peer}})
		b.Datagrams(script.RecvFrom, name, 2)
		b.must(script.Command{Do: script.Connect, Name: name, Address: here})
		a.must(script.Command{Do: script.SendTo, How: script.RingPoll, Name: "s", Bytes: 300, Peers: []string{peer}})
		b.must(script.Command{Do: script.Receive, How: script.Ring, Name: name, Times: 1})
	}
	a.Finish()
	b.Finish()
	c.Check()
}
