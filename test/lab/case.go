package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// Case is one scenario. Its methods end the test on an error, so they belong to the test's goroutine.
type Case struct {
	*testing.T
	Lab    *Lab
	Pair   *Pair
	Host   *Space // the namespace that the lab itself runs in
	Daemon *Daemon

	dir         string
	uneven      bool
	result, why string // for [Result]; Check fills in what is still empty

	mu   sync.Mutex
	want []Expectation // guarded by mu: Storm appends from many goroutines
}

// NewCase makes the namespaces and the directory of a case. d may be nil: then only the accounts are compared.
func NewCase(t *testing.T, l *Lab, d *Daemon) *Case {
	t.Helper()
	pair, err := NewPair()
	if err != nil {
		t.Fatal(err)
	}
	host, err := hostSpace()
	if err != nil {
		t.Fatal(err)
	}
	// Not before the lab's end: the kernel gives the inode of a dead namespace to the next one at once, whose rows would
	// then be taken for this one's.
	l.t.Cleanup(func() {
		if err := pair.Close(); err != nil {
			l.t.Error(err)
		}
	})
	dir := filepath.Join(l.Dir, "cases", filepath.Base(t.Name()))
	return &Case{T: t, Lab: l, Pair: pair, Host: host, Daemon: d, dir: dir}
}

// Binary makes an executable for a role; its name is the role's, its hash its own.
func (c *Case) Binary(role string) string {
	c.Helper()
	path := filepath.Join(c.dir, role)
	if err := c.Lab.Copy(path); err != nil {
		c.Fatal(err)
	}
	return path
}

// Start starts a generator in a role of its own.
func (c *Case) Start(role string, space *Space, args ...string) *Puppet {
	c.Helper()
	return c.StartAs(0, c.Binary(role), space, args...)
}

// StartAs starts a generator of a given binary as a given user.
func (c *Case) StartAs(uid int, path string, space *Space, args ...string) *Puppet {
	c.Helper()
	return c.start(launch{space: space, path: path, args: args, uid: uid})
}

// StartWrapped starts a generator as the child of a command that takes its path as the last argument.
func (c *Case) StartWrapped(role string, space *Space, wrap ...string) *Puppet {
	c.Helper()
	return c.start(launch{space: space, path: c.Binary(role), wrap: wrap})
}

func (c *Case) start(how launch) *Puppet {
	c.Helper()
	p, err := startPuppet(c.Lab, how)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(p.discard)
	return &Puppet{c: c, p: p}
}

// Expect adds what an account says to the rows that must appear. change may refine each expectation.
func (c *Case) Expect(a *script.Account, process, parent Identity, change ...func(*Expectation)) {
	c.Helper()
	want, err := expect(a, process, parent)
	if err != nil {
		c.Fatal(err)
	}
	for i := range want {
		for _, f := range change {
			f(&want[i])
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want = append(c.want, want...)
}

// Mayfly runs a process, as uid, that connects to address, sends and is gone. It may be called from any goroutine; an
// error fails the test without ending it.
func (c *Case) Mayfly(uid int, path, address string, bytes, number int) {
	how := launch{space: c.Pair.A, path: path, args: []string{"--flight", fmt.Sprint(number)}, uid: uid}
	c.brief(how,
		script.Command{Do: script.Socket, Name: "s", Net: "tcp4"},
		script.Command{Do: script.Connect, Name: "s", Address: address},
		script.Command{Do: script.Send, Name: "s", Bytes: bytes})
}

// brief runs a process that does this and is gone. It may be called from any goroutine, as Mayfly.
func (c *Case) brief(how launch, steps ...script.Command) {
	account, who, err := shortLived(c.Lab, how, steps)
	if err != nil {
		c.Error(err)
		return
	}
	want, err := expect(account, who.identity, who.parent)
	if err != nil {
		c.Error(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want = append(c.want, want...)
}

func (c *Case) wanted() []Expectation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Expectation(nil), c.want...)
}

func (c *Case) filter() Filter {
	return Filter{ExePrefix: c.dir + "/", Namespaces: []uint64{c.Pair.A.Inode, c.Pair.B.Inode}}
}

// Check waits until the rows are exactly the expected ones, and fails with a table of what differs. The daemon compares
// them once more when it has stopped: a row that comes later, or twice, is found there.
func (c *Case) Check() {
	c.Helper()
	if c.Daemon == nil {
		c.checkMirror()
		return
	}
	c.Daemon.remember(c.filter(), c.wanted())
	var differences []Difference
	start := time.Now()
	for ok := false; !ok; {
		ctx, cancel := context.WithTimeout(c.Context(), Deadline())
		rows, err := readRows(ctx, c.Daemon.Database(), c.filter())
		cancel()
		if err != nil {
			c.Logf("will ask again: %v", err)
		}
		differences = compare(c.wanted(), rows)
		switch {
		case err == nil && len(differences) == 0:
			ok = true
			c.judge(rows)
		case time.Since(start) > Deadline():
			c.why = firstLine(differences)
			c.Fatalf("after %v:\n%s\ndaemon:\n%s", Deadline(), table(differences), c.Daemon.LogTail())
		default:
			time.Sleep(200 * time.Millisecond)
		}
	}
	c.Logf("exact after %v", time.Since(start).Round(time.Millisecond))
}

// judge sets what [Result] says of a case whose rows are right.
func (c *Case) judge(rows []Row) {
	if c.result == "" {
		c.result, c.why = outcome(rows)
	}
}

// Outcome is how the case ended, if it passed.
func (c *Case) Outcome() (result, why string) { return c.result, c.why }

// Relax turns what was checked into lower bounds, for what may still happen until the daemon stops.
func (c *Case) Relax() {
	c.mu.Lock()
	for i := range c.want {
		c.want[i].AtLeast = true
	}
	c.mu.Unlock()
	if c.Daemon != nil {
		c.Daemon.remember(c.filter(), c.wanted())
	}
}

// Uneven says that the ends do not agree by design: bytes are lost, or cut off, or seen by a third.
func (c *Case) Uneven() { c.uneven = true }

// checkMirror compares the accounts with each other: what one end of a TCP connection handed over, the other end took,
// and of the datagrams none is lost.
func (c *Case) checkMirror() {
	c.Helper()
	if len(c.wanted()) == 0 {
		c.Error("the case expects nothing")
	}
	if c.uneven {
		return
	}
	type direction struct {
		laddr, raddr string
		lport, rport int
	}
	sent, received := map[direction]uint64{}, map[direction]uint64{}
	datagrams := direction{}
	for _, e := range c.wanted() {
		k := e.Key
		if k.Protocol != "tcp" && k.Protocol != mptcp {
			sent[datagrams] += e.Sums.Sent
			received[datagrams] += e.Sums.Received
		} else {
			sent[direction{k.Laddr, k.Raddr, k.Lport, k.Rport}] += e.Sums.Sent
			received[direction{k.Raddr, k.Laddr, k.Rport, k.Lport}] += e.Sums.Received
		}
	}
	for d, n := range sent {
		if received[d] != n {
			c.Errorf("%+v: sent %d, received %d", d, n, received[d])
		}
	}
}
