package lab

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// talk connects p to server over loopback and sends so many bytes; server takes them.
func talk(server, p *Puppet, name string, bytes int) {
	server.c.Helper()
	p.Dial(name, "tcp4", server.Listen("l-"+name, "tcp4", loopback4))
	server.Accept("l-"+name, name)
	p.Send(name, bytes, 1)
	server.Receive(name, bytes)
}

// shortLivedProcesses connect, send and are gone before anybody could look them up.
func shortLivedProcesses(c *Case) {
	const each = 1000
	n := Size(200, 20)
	server := c.Start("server", c.Pair.B)
	address := server.Listen("l", "tcp4", c.Pair.B.V4)
	path := c.Binary("mayfly")
	work := make(chan int)
	var crew sync.WaitGroup
	for range 4 {
		crew.Go(func() {
			for i := range work {
				c.mayfly(path, address, each+i, i)
			}
		})
	}
	stop := sync.OnceFunc(func() {
		close(work)
		crew.Wait()
	})
	defer stop() // also when the test ends early
	for i := range n {
		work <- i
		name := fmt.Sprint("s", i)
		server.Accept("l", name)
		server.Receive(name, 1<<20) // until the end of the stream
		server.must(script.Command{Do: script.Close, Name: name})
	}
	stop()
	server.Finish()
	c.Check()
}

func (c *Case) mayfly(path, address string, bytes, i int) { c.Mayfly(0, path, address, bytes, i) }

// twoUsers run one binary.
func twoUsers(c *Case) {
	server := c.Start("server", c.Pair.A)
	path := c.Binary("shared")
	for i, uid := range []int{ownerUID, secondUID} {
		p := c.StartAs(uid, path, c.Pair.A)
		talk(server, p, fmt.Sprint("s", i), 100*(i+1))
		p.Finish()
	}
	server.Finish()
	c.Check()
}

// manyArguments runs one binary with different arguments at the same time, some of which need quoting or escaping.
func manyArguments(c *Case) {
	server := c.Start("server", c.Pair.A)
	path := c.Binary("argued")
	lists := [][]string{
		{}, {"-a"}, {"two words", "it's"}, {""}, {"grün", `back\slash`}, {"new\nline", "\xff\xfe"}, {"\u202egnp.exe"},
	}
	var puppets []*Puppet
	for i, list := range lists {
		p := c.StartAs(0, path, c.Pair.A, list...)
		talk(server, p, fmt.Sprint("s", i), 10+i)
		puppets = append(puppets, p)
	}
	for _, p := range puppets {
		p.Finish()
	}
	server.Finish()
	c.Check()
}

// twins have one name and two hashes.
func twins(c *Case) {
	server := c.Start("server", c.Pair.A)
	for i, dir := range []string{"one", "two"} {
		p := c.StartAs(0, c.Binary(filepath.Join(dir, "twin")), c.Pair.A)
		talk(server, p, fmt.Sprint("s", i), 64+i)
		p.Finish()
	}
	server.Finish()
	c.Check()
}

// oddName runs a program whose file name is not text: the row shows it escaped.
func oddName(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("od\xffd\n\x1b[1m", c.Pair.A)
	talk(server, client, "s", 16)
	client.Finish()
	server.Finish()
	c.Check()
}

// manyThreads send on one socket at once.
func manyThreads(c *Case) {
	threads, times := Size(8, 4), Size(200, 20)
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", loopback4))
	server.Accept("l", "s")
	received := server.Later(script.Command{Do: script.Receive, Name: "s", Bytes: threads * times * 100})
	client.must(script.Command{Do: script.Threads, Name: "s", Threads: threads, Times: times, Bytes: 100})
	received()
	client.Finish()
	server.Finish()
	c.Check()
}

// forkShares makes parent and forked child send over one socket: two processes, one binary, one tuple of addresses.
func forkShares(c *Case) {
	times := Size(500, 50)
	server, client := c.Start("server", c.Pair.A), c.Start("client", c.Pair.A)
	client.Dial("s", "tcp4", server.Listen("l", "tcp4", loopback4))
	server.Accept("l", "s")
	received := server.Later(script.Command{Do: script.Receive, Name: "s", Bytes: 2 * times * 30})
	client.Fork("s", 30, times)
	received()
	client.Finish()
	server.Finish()
	c.Check()
}

// execKeepsSocket replaces the program in the middle of a connection: same process, another executable.
func execKeepsSocket(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("before", c.Pair.A, "first")
	talk(server, client, "s", 111)
	client.Exec(c.Binary("after"), "second", "life")
	client.Send("s", 2222, 1)
	server.Receive("s", 2222)
	server.Send("s", 5, 1)
	client.Receive("s", 5)
	client.Finish()
	server.Finish()
	c.Check()
}

// childUsesSocket passes an open connection to a child with an executable of its own, and goes on with it afterwards.
func childUsesSocket(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("parent", c.Pair.A)
	talk(server, client, "s", 10)
	grandparent := c.Lab.Self
	client.Spawn(false, c.Binary("child"), "--inherited")
	client.Send("s", 200, 1)
	server.Receive("s", 200)
	client.Finish(func(e *Expectation) { e.Grandparent = &grandparent })
	client.Send("s", 3000, 1)
	server.Receive("s", 3000)
	client.Finish()
	server.Finish()
	c.Check()
}

// parentGone lets the parent end before its child says a word: the row still names it.
func parentGone(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("launcher", c.Pair.A, "--daemonize")
	grandparent := c.Lab.Self
	client.Spawn(true, c.Binary("orphan"), "work")
	talk(server, client, "s", 4321)
	client.Finish(func(e *Expectation) { e.Grandparent = &grandparent })
	server.Finish()
	c.Check()
}

// longName has a file name that is longer than what the kernel keeps as a process's name.
func longName(c *Case) {
	server, client := c.Start("server", c.Pair.A), c.Start("a name longer than fifteen bytes", c.Pair.A)
	talk(server, client, "s", 15)
	client.Finish()
	server.Finish()
	c.Check()
}
