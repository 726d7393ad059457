package lab

import (
	"net/netip"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// Puppet is a generator as a case speaks to it. Its methods end the test on an error.
type Puppet struct {
	c *Case
	p *puppet
}

// Do runs any command; the caller judges Reply.Errno.
func (p *Puppet) Do(c script.Command) script.Reply {
	p.c.Helper()
	r, err := p.p.do(c)
	if err != nil {
		p.c.Fatal(err)
	}
	return r
}

// must runs a command that has to succeed.
func (p *Puppet) must(c script.Command) script.Reply {
	p.c.Helper()
	r := p.Do(c)
	if r.Errno != "" {
		p.c.Fatalf("%s %s: %s", c.Do, c.Name, r.Errno)
	}
	return r
}

// Bound opens a socket bound to a free port of ip.
func (p *Puppet) Bound(name, network string, ip netip.Addr) string {
	p.c.Helper()
	p.must(script.Command{Do: script.Socket, Name: name, Net: network})
	return p.must(script.Command{Do: script.Bind, Name: name, Address: netip.AddrPortFrom(ip, 0).String()}).Local
}

// Listen opens a listening socket on a free port of ip and returns its address.
func (p *Puppet) Listen(name, network string, ip netip.Addr) string {
	p.c.Helper()
	address := p.Bound(name, network, ip)
	p.must(script.Command{Do: script.Listen, Name: name})
	return address
}

// Dial opens a socket and connects it.
func (p *Puppet) Dial(name, network, address string) script.Reply {
	p.c.Helper()
	p.must(script.Command{Do: script.Socket, Name: name, Net: network})
	return p.must(script.Command{Do: script.Connect, Name: name, Address: address})
}

// Accept takes a connection of a listening socket.
func (p *Puppet) Accept(listener, as string) {
	p.c.Helper()
	p.must(script.Command{Do: script.Accept, Name: listener, As: as})
}

// Later starts a command and returns what waits for its success.
func (p *Puppet) Later(do script.Command) (wait func()) {
	p.c.Helper()
	if err := p.p.write(do); err != nil {
		p.c.Fatal(err)
	}
	return func() {
		p.c.Helper()
		if r, err := p.p.read(); err != nil || r.Errno != "" {
			p.c.Fatalf("%s %s: %s %v", do.Do, do.Name, r.Errno, err)
		}
	}
}

// Send sends so many times so many bytes.
func (p *Puppet) Send(name string, bytes, times int) {
	p.c.Helper()
	p.must(script.Command{Do: script.Send, Name: name, Bytes: bytes, Times: times})
}

// SendTo sends a datagram to each peer.
func (p *Puppet) SendTo(name string, bytes int, peers ...string) {
	p.c.Helper()
	p.must(script.Command{Do: script.SendTo, Name: name, Bytes: bytes, Peers: peers})
}

// Receive receives so many bytes (of a stream) without asking for an address.
func (p *Puppet) Receive(name string, bytes int) {
	p.c.Helper()
	p.must(script.Command{Do: script.Receive, Name: name, Bytes: bytes})
}

// Datagrams receives so many datagrams by one of Receive, Read, RecvFrom.
func (p *Puppet) Datagrams(how, name string, times int) {
	p.c.Helper()
	p.must(script.Command{Do: how, Name: name, Times: times})
}

// Facts is the account until now.
func (p *Puppet) Facts() *script.Account {
	p.c.Helper()
	return p.must(script.Command{Do: script.Facts}).Facts
}

// Identity is that of the speaking program.
func (p *Puppet) Identity() Identity { return p.p.current().identity }

// Finish ends the speaking program; what it did becomes expected rows.
func (p *Puppet) Finish(change ...func(*Expectation)) {
	p.c.Helper()
	speaker := *p.p.current()
	account, err := p.p.finish()
	if err != nil {
		p.c.Fatal(err)
	}
	p.c.Expect(account, speaker.identity, speaker.parent, change...)
}

// Exec replaces the program; what the old image did becomes expected rows.
func (p *Puppet) Exec(path string, args ...string) {
	p.c.Helper()
	old := *p.p.current()
	account, err := p.p.exec(path, args...)
	if err != nil {
		p.c.Fatal(err)
	}
	p.c.Expect(account, old.identity, old.parent)
}

// Spawn gives the conversation to a child. With leave the parent ends first; what it did becomes expected rows.
func (p *Puppet) Spawn(leave bool, path string, args ...string) {
	p.c.Helper()
	if leave {
		parent := *p.p.current()
		p.c.Expect(p.Facts(), parent.identity, parent.parent)
	}
	if err := p.p.spawn(leave, path, args...); err != nil {
		p.c.Fatal(err)
	}
}

// Fork makes parent and child send over the same socket at once; what the child did becomes expected rows.
func (p *Puppet) Fork(name string, bytes, times int, change ...func(*Expectation)) {
	p.c.Helper()
	r := p.must(script.Command{Do: script.Fork, Name: name, Bytes: bytes, Times: times})
	if r.Child == nil || len(r.Child.Flows) == 0 {
		p.c.Fatalf("fork %s: the child gave no account", name)
	}
	p.c.Expect(r.Child, p.Identity(), p.Identity(), change...)
}
