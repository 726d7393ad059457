package lab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// publicPaths are those of the public comparison's scenarios (docs/coverage.md) that nothing else here shows.
func publicPaths() []scenario {
	return []scenario{
		{"udp-443", udpPort(443, 1200)},
		{"udp-53", udpPort(53, 20)},
		{"tcp-drip", tcpDrip},
		{"tcp-parallel-burst", tcpParallel},
		{"container", inContainer},
		{"kernel-nfs", kernelClient},
	}
}

// udpPort sends datagrams to a port whose packets the daemon looks into; these are not what it looks for.
func udpPort(port uint16, bytes int) func(*Case) {
	return func(c *Case) {
		server, client := c.Start("server", c.Pair.B), c.Start("client", c.Pair.A)
		server.must(script.Command{Do: script.Socket, Name: "s", Net: "udp4"})
		to := netip.AddrPortFrom(c.Pair.B.V4, port).String()
		server.must(script.Command{Do: script.Bind, Name: "s", Address: to})
		here := client.Bound("s", "udp4", c.Pair.A.V4)
		for i := range 5 {
			client.SendTo("s", bytes+i, to)
			server.Datagrams(script.RecvFrom, "s", 1)
		}
		server.SendTo("s", 2*bytes, here)
		client.Datagrams(script.RecvFrom, "s", 1)
		client.Finish()
		server.Finish()
		c.Check()
	}
}

// tcpDrip sends a few bytes now and then, over several windows.
func tcpDrip(c *Case) {
	client, server := stream{across: true}.connect(c)
	for i := range 10 {
		client.Send("s", 3+i, 1)
		server.Receive("s", 3+i)
		time.Sleep(250 * time.Millisecond) // this is what a drip is
	}
	client.Finish()
	server.Finish()
	c.Check()
}

// tcpParallel has eight connections of eight processes send at once.
func tcpParallel(c *Case) {
	server := c.Start("server", c.Pair.B)
	address := server.Listen("l", "tcp4", c.Pair.B.V4)
	const clients, bytes, times = 8, 8000, 20
	var crowd []*Puppet
	for i := range clients {
		p := c.Start(fmt.Sprint("client", i), c.Pair.A)
		p.Dial("s", "tcp4", address)
		server.Accept("l", fmt.Sprint("s", i))
		crowd = append(crowd, p)
	}
	var waits []func()
	for _, p := range crowd {
		waits = append(waits, p.Later(script.Command{Do: script.Send, Name: "s", Bytes: bytes, Times: times}))
	}
	for i := range clients {
		server.Receive(fmt.Sprint("s", i), bytes*times)
	}
	for i, p := range crowd {
		waits[i]()
		p.Finish()
	}
	server.Finish()
	c.Check()
}

// inContainer runs one end in namespaces of its own: its program is what the host sees at the same path.
func inContainer(c *Case) {
	wrapper, err := exec.LookPath("bwrap")
	c.Feature("bubblewrap", err == nil)
	server := c.Start("server", c.Pair.B)
	client := c.StartWrapped("client", c.Pair.A, wrapper, "--unshare-user", "--unshare-ipc", "--unshare-uts", "--bind", "/", "/", "--")
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", c.Pair.B.V4))
	server.Accept("l", "s")
	client.Send("s", 1111, 3)
	server.Receive("s", 3333)
	server.Send("s", 17, 1)
	client.Receive("s", 17)
	client.Finish()
	server.Finish()
	c.Check()
}

// kernelClient has the kernel itself connect to a server: that is not blamed on the process that asks it to.
func kernelClient(c *Case) {
	c.Uneven() // the kernel gives no account
	server := c.Start("server", c.Pair.B)
	address := netip.MustParseAddrPort(server.Listen("l", "tcp4", c.Pair.B.V4))
	options := fmt.Sprintf("addr=%s,port=%d,vers=4.2,proto=tcp,clientaddr=%s,soft,timeo=10,retrans=1,retry=0", address.Addr(), address.Port(), c.Pair.A.V4)
	mounted := make(chan error, 1)
	place := c.TempDir()
	go func() {
		mounted <- c.Pair.A.Do(func() error { return unix.Mount(c.Pair.B.V4.String()+":/", place, "nfs", 0, options) })
	}()
	select {
	case err := <-mounted:
		c.Feature("NFS", err != unix.ENODEV)
		c.Fatalf("mount without an answer: %v", err)
	case <-time.After(time.Second): // it waits for the answer to its first call
	}
	server.must(script.Command{Do: script.Swallow, Name: "l"})
	if err := <-mounted; err == nil {
		c.Fatal("mount: succeeded without a server")
	}
	sent := bytesOf(server.Facts(), func(f script.Flow) uint64 { return f.Received })
	if sent == 0 {
		c.Fatal("the kernel has sent nothing")
	}
	c.awaitKernel("sunrpc", c.Pair.B.V4.String(), sent)
}

// awaitKernel waits until the kernel's own sockets have a row for what they sent to a peer: what arrived, and perhaps a
// call that was under way when its connection was given up.
func (c *Case) awaitKernel(name, peer string, arrived uint64) {
	c.Helper()
	if c.Daemon == nil {
		return
	}
	seen := map[string]uint64{}
	for end := time.Now().Add(Deadline()); seen[name] < arrived; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("no row of %s to %s with %d bytes, but %v", name, peer, arrived, seen)
		}
		rows, err := readRows(c.Context(), c.Daemon.Database(), c.filter())
		if err != nil {
			c.Logf("will ask again: %v", err)
		}
		clear(seen)
		for _, r := range rows {
			if r.Key.Raddr == peer && r.Sums.Sent > 0 {
				seen[r.Key.Process.Name] += r.Sums.Sent
			}
		}
	}
	const call = 44 // NULL of RPC over TCP, with AUTH_NULL
	if seen[name]%call != 0 {
		c.Errorf("%d bytes are no whole calls of %d", seen[name], call)
	}
	if len(seen) != 1 {
		c.Errorf("others than %s are said to have sent to %s: %v", name, peer, seen)
	}
	c.result, c.why = Exact, "kernel: "+name
}
