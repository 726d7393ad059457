package lab

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// conversation is a pair of processes with a TCP connection and a UDP pair that outlive restarts of the daemon.
type conversation struct {
	c              *Case
	server, client *Puppet
}

func newConversation(c *Case) *conversation {
	v := &conversation{c: c, server: c.Start("server", c.Pair.B), client: c.Start("client", c.Pair.A)}
	v.client.Dial("t", "tcp4", v.server.Listen("l", "tcp4", c.Pair.B.V4))
	v.server.Accept("l", "t")
	here, there := v.client.Bound("u", "udp4", c.Pair.A.V4), v.server.Bound("u", "udp4", c.Pair.B.V4)
	v.client.must(script.Command{Do: script.Connect, Name: "u", Address: there})
	v.server.must(script.Command{Do: script.Connect, Name: "u", Address: here})
	return v
}

// exchange moves bytes both ways over both sockets.
func (v *conversation) exchange(bytes int) {
	v.c.Helper()
	v.client.Send("t", bytes, 2)
	v.server.Receive("t", 2*bytes)
	v.server.Send("t", 3*bytes, 1)
	v.client.Receive("t", 3*bytes)
	v.client.Send("u", bytes%1000+1, 4)
	v.server.Datagrams(script.Receive, "u", 4)
	v.server.Send("u", 7, 1)
	v.client.Datagrams(script.Receive, "u", 1)
}

func (v *conversation) finish() {
	v.c.Helper()
	v.client.Finish()
	v.server.Finish()
}

// beforeStart has everything open before the daemon starts: what moved earlier is not there, what moves later is exact.
func beforeStart(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	c := NewCase(t, l, d)
	v := newConversation(c)
	v.exchange(5000)
	d.Start()
	v.client.must(script.Command{Do: script.Reset})
	v.server.must(script.Command{Do: script.Reset})
	v.exchange(600)
	v.finish()
	c.Check()
	d.Stop()
}

// queuedBeforeStart has a connection wait to be accepted when the daemon starts, where nobody holds it yet.
func queuedBeforeStart(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	c := NewCase(t, l, d)
	server, client := c.Start("server", c.Pair.B), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", c.Pair.B.V4))
	d.Start()
	client.must(script.Command{Do: script.Reset})
	server.must(script.Command{Do: script.Reset})
	server.Accept("l", "s")
	client.Send("s", 1000, 1)
	server.Receive("s", 1000)
	client.Send("s", 5000, 1)
	server.must(script.Command{Do: script.Receive, How: script.Splice, Name: "s", Bytes: 5000})
	client.Finish()
	server.Finish(onlyBytes)
	c.Check()
	d.Stop()
}

// uncountedBeforeStart has what moves bytes without calls set up before the daemon starts: it is told of all the same.
func uncountedBeforeStart(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	c := NewCase(t, l, d)
	ring, xdp, tun := c.Start("ring", c.Pair.A), c.Start("xdp", c.Pair.A), c.Start("tun", c.Pair.A)
	ring.must(script.Command{Do: script.Socket, Name: "s", Net: "packet"})
	ring.set("s", "rx-ring")
	r := xdp.Do(script.Command{Do: script.BindXDP, Net: "lab0"})
	c.Feature("AF_XDP on veth", r.Errno == "")
	r = tun.Do(script.Command{Do: script.Tunnel, Net: "tun0"})
	c.Feature("TUN", r.Errno == "")
	d.Start()
	for word, p := range map[string]*Puppet{"ring": ring, "xdp": xdp, "tun": tun} {
		c.CheckGap(p.Identity(), word)
		p.Finish()
	}
	d.Stop()
}

// killPlugin kills the sqlite plugin while bytes move, several times: it comes back, nothing is lost, nothing comes
// twice.
func killPlugin(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	d.Start()
	c := NewCase(t, l, d)
	v := newConversation(c)
	last := 0
	for i := range Size(3, 1) {
		p := d.WaitPlugin("sqlite", func(p PluginStatus) bool { return p.Running() && p.Pid != last })
		for j := range 20 {
			v.exchange(100*i + j + 1)
			if j == 10 {
				killProcess(t, p.Pid)
				last = p.Pid
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	p := d.WaitPlugin("sqlite", func(p PluginStatus) bool { return p.Running() && p.Pid != last })
	killProcess(t, p.Pid)
	killed := time.Now()
	v.exchange(1)
	back := d.WaitPlugin("sqlite", func(b PluginStatus) bool { return b.Running() && b.Pid != p.Pid })
	t.Logf("killed %d times; running again after %v", back.Restarts, time.Since(killed).Round(time.Millisecond))
	v.finish()
	c.Check()
	d.Stop()
}

func killProcess(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill plugin %d: %v", pid, err)
	}
}

// callsUnderWay has another daemon come and go while calls wait for bytes, at places of the kernel where ours is too. The
// calls are counted when they end; where the kernel leaves out their ends, a gap accounts for each datagram.
func callsUnderWay(t *testing.T, l *Lab) {
	d, other := NewDaemon(t, l, 0), NewDaemon(t, l, 0)
	d.Start()
	stream, datagrams := NewCase(t, l, d), NewCase(t, l, d)
	datagrams.dir += "-datagrams"
	for _, c := range []*Case{stream, datagrams} {
		v := newConversation(c)
		for i, change := range []func(){other.Start, other.Stop} {
			receive := script.Command{Do: script.Receive, Name: "t", Bytes: 50 + i}
			if c == datagrams {
				receive = script.Command{Do: script.Receive, Name: "u", Times: 1}
			}
			received := v.server.Later(receive)
			change()
			v.client.Send(receive.Name, 50+i, 1)
			received()
		}
		v.exchange(7) // the next calls of the same threads
		v.finish()
	}
	stream.Check()
	datagrams.CheckReceives("end of a call not seen")
	d.Stop()
}

// killHost kills the daemon right after bytes moved, most likely between two drains, and starts it again. What moved
// while it ran is exact; nothing moves while it is down.
func killHost(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	c := NewCase(t, l, d)
	d.Start()
	v := newConversation(c)
	for i := range Size(4, 2) {
		v.exchange(1000 + i)
		time.Sleep(time.Duration(i) * 330 * time.Millisecond) // at different points of the window
		v.exchange(2000 + i)
		d.Kill()
		d.Start()
	}
	v.exchange(77)
	v.finish()
	c.Check()
	d.Stop()
}

// killHostMayfly kills the daemon right after processes came, sent and went: their rows name them in full.
func killHostMayfly(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	c := NewCase(t, l, d)
	d.Start()
	server := c.Start("server", c.Pair.B)
	address := server.Listen("l", "tcp4", c.Pair.B.V4)
	path := c.Binary("mayfly")
	for i := range Size(3, 2) {
		c.mayfly(path, address, 100+i, i)
		server.Accept("l", "s")
		server.Receive("s", 1<<20)
		d.Kill()
		d.Start()
	}
	server.Finish()
	c.Check()
	d.Stop()
}

// stopUnderLoad ends the daemon with SIGTERM while one pair floods: what was handed over before the signal is there,
// and what had finished before is exact.
func stopUnderLoad(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	d.Start()
	d.WaitPlugin("sqlite", PluginStatus.Running) // or its rows would wait in the journal for the next start
	quiet := NewCase(t, l, d)
	v := newConversation(quiet)
	v.exchange(1234)
	v.finish()

	load := newLoad(t, l, d)
	time.Sleep(300 * time.Millisecond)
	lower := map[*Puppet]*script.Account{load.client: load.client.Facts(), load.server: load.server.Facts()}
	d.remember(quiet.filter(), quiet.wanted())
	if err := d.end(unix.SIGTERM); err != nil {
		t.Fatalf("daemon on SIGTERM under load: %v\n%s", err, d.LogTail())
	}
	d.checkLog()
	upper := map[*Puppet]*script.Account{load.client: load.client.Facts(), load.server: load.server.Facts()}
	for p, account := range lower {
		load.c.Expect(account, p.Identity(), l.Self, func(e *Expectation) { e.AtLeast = true })
		load.c.atMost(upper[p])
	}
	d.remember(load.c.filter(), load.c.wanted())
	d.Recheck()
}

// load is a pair of processes that send and receive until they are told to halt.
type load struct {
	c              *Case
	client, server *Puppet
}

func newLoad(t *testing.T, l *Lab, d *Daemon) *load {
	t.Helper()
	c := NewCase(t, l, d)
	c.dir += "-load"
	v := &load{c: c, client: c.Start("pump", c.Pair.A), server: c.Start("drain", c.Pair.B)}
	v.client.Dial("s", "tcp4", v.server.Listen("l", "tcp4", c.Pair.B.V4))
	v.server.Accept("l", "s")
	v.server.must(script.Command{Do: script.Drain, Name: "s"})
	v.client.must(script.Command{Do: script.Pump, Name: "s", Bytes: 1000, Gap: 200})
	return v
}

// atMost compares the rows with an account as an upper bound.
func (c *Case) atMost(a *script.Account) {
	c.Helper()
	rows, err := readRows(c.Context(), c.Daemon.Database(), c.filter())
	if err != nil {
		c.Fatal(err)
	}
	var sent, received, rowsSent, rowsReceived uint64
	for _, f := range a.Flows {
		sent, received = sent+f.Sent, received+f.Received
	}
	for _, r := range rows {
		if r.Key.Pid == a.Process.Pid {
			rowsSent, rowsReceived = rowsSent+r.Sums.Sent, rowsReceived+r.Sums.Received
		}
	}
	if rowsSent > sent || rowsReceived > received {
		c.Errorf("%s: rows have %d sent, %d received; the process moved only %d and %d",
			a.Process.Name, rowsSent, rowsReceived, sent, received)
	}
}

// flooder sends to very many peers beside a quiet sender of another user, whose rows stay exact (decision 13).
func flooder(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	d.Start()
	c := NewCase(t, l, d)
	noisy := c.StartAs(secondUID, c.Binary("flooder"), c.Pair.A)
	noisy.must(script.Command{Do: script.Socket, Name: "f", Net: "udp4"})
	done := noisy.Later(script.Command{Do: script.Flood, Name: "f", Times: Size(20_000, 2_000)})
	v := newConversation(c)
	for i := range 10 {
		v.exchange(50 + i)
		time.Sleep(10 * time.Millisecond)
	}
	done()
	noisy.Finish()
	v.finish()
	c.Check()
	d.Stop()
}
