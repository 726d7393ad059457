package chaos

import (
	"fmt"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/test/lab"
	"github.com/picosnitch/picosnitch/test/lab/script"
)

// Users of the generators have no passwd entry; nothing else on the machine runs as them. None is root: the machine's own
// work may take all of root's share of a window, and what goes beyond a share loses its name.
const (
	owner      = 51001 // of the configuration, too
	secondUser = 51002
	thirdUser  = 51003
	fourthUser = 51004
)

// mayflyEvery is how often a process comes, connects, sends and goes.
const mayflyEvery = 150 * time.Millisecond

// traffic is generators that move bytes all the time: a TCP connection both ways, datagrams, and processes that come and
// go. They are of several users. What they say in the end is the truth.
type traffic struct {
	c               *lab.Case
	client, server  *lab.Puppet // the TCP connection, and datagrams from one to the other
	nest            *lab.Puppet // takes what mayflies bring
	mayfly, nestsAt string      // their program, where they connect to
	flights         int
	stop            chan struct{}
	flying          sync.WaitGroup
	paused          bool
	lone            int // processes of Once
}

// newTraffic starts the generators of a case; nothing moves before Resume.
func newTraffic(c *lab.Case) *traffic {
	c.Helper()
	v := &traffic{c: c, paused: true, mayfly: c.Binary("mayfly")}
	v.server = c.StartAs(secondUser, c.Binary("server"), c.Pair.B)
	v.client = c.StartAs(owner, c.Binary("client"), c.Pair.A)
	v.nest = c.StartAs(thirdUser, c.Binary("nest"), c.Pair.B)
	v.client.Dial("t", "tcp4", v.server.Listen("l", "tcp4", c.Pair.B.V4))
	v.server.Accept("l", "t")
	there, here := v.server.Bound("u", "udp4", c.Pair.B.V4), v.client.Bound("u", "udp4", c.Pair.A.V4)
	v.must(v.client, script.Command{Do: script.Connect, Name: "u", Address: there})
	v.must(v.server, script.Command{Do: script.Connect, Name: "u", Address: here})
	v.nestsAt = v.nest.Listen("l", "tcp4", c.Pair.B.V4)
	return v
}

func (v *traffic) must(p *lab.Puppet, do script.Command) script.Reply {
	v.c.Helper()
	r := p.Do(do)
	if r.Errno != "" {
		v.c.Fatalf("%s %s: %s", do.Do, do.Name, r.Errno)
	}
	return r
}

// resume lets everything move.
func (v *traffic) resume() {
	v.c.Helper()
	if !v.paused {
		return
	}
	v.paused = false
	v.must(v.nest, script.Command{Do: script.Swallow, Name: "l"})
	for _, p := range []*lab.Puppet{v.client, v.server} {
		v.must(p, script.Command{Do: script.Drain, Name: "t"})
		v.must(p, script.Command{Do: script.Drain, Name: "u"})
	}
	v.must(v.client, script.Command{Do: script.Pump, Name: "t", Bytes: 1000, Gap: 5000})
	v.must(v.server, script.Command{Do: script.Pump, Name: "t", Bytes: 333, Gap: 9000})
	v.must(v.client, script.Command{Do: script.Pump, Name: "u", Bytes: 64, Gap: 10_000})
	v.stop = make(chan struct{})
	v.flying.Go(v.fly)
}

// fly sends mayflies until stop, each of another user than the one before.
func (v *traffic) fly() {
	tick := time.NewTicker(mayflyEvery)
	defer tick.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-tick.C:
		}
		users := []int{owner, secondUser, thirdUser, fourthUser}
		v.c.Mayfly(users[v.flights%len(users)], v.mayfly, v.nestsAt, 100+v.flights, v.flights)
		v.flights++
	}
}

// pause stops everything and waits until what was sent over TCP has been taken: no byte is under way then.
func (v *traffic) pause() {
	v.c.Helper()
	if v.paused {
		return
	}
	v.paused = true
	close(v.stop)
	v.flying.Wait()
	for _, p := range []*lab.Puppet{v.client, v.server, v.nest} {
		v.must(p, script.Command{Do: script.Halt})
	}
	v.settle()
}

// settle takes what halted drains left in the sockets. Each end must have taken what the other handed over.
func (v *traffic) settle() {
	v.c.Helper()
	for _, pair := range [][2]*lab.Puppet{{v.client, v.server}, {v.server, v.client}} {
		from, to := pair[0], pair[1]
		if missing := streamed(from).Sent - streamed(to).Received; missing > 0 {
			to.Receive("t", int(missing))
		}
	}
}

// streamed is what a process has moved over TCP.
func streamed(p *lab.Puppet) moved {
	const tcp = 6
	var m moved
	for _, f := range p.Facts().Flows {
		if f.Protocol == tcp {
			m.Sent, m.Received = m.Sent+f.Sent, m.Received+f.Received
		}
	}
	return m
}

// once runs a process that sends one datagram and ends, as every store must show if it is seen.
func (v *traffic) once(seen bool) error {
	v.c.Helper()
	v.lone++
	p := v.c.StartAs(fourthUser, v.c.Binary(fmt.Sprint("lone", v.lone)), v.c.Pair.A)
	there := p.Bound("to", "udp4", v.c.Pair.A.V4)
	v.must(p, script.Command{Do: script.Socket, Name: "s", Net: "udp4"})
	p.SendTo("s", 1234, there)
	if !seen {
		return p.End()
	}
	p.Finish()
	return nil
}

// finish ends the generators; what they moved is expected from now on.
func (v *traffic) finish() {
	v.c.Helper()
	v.pause()
	for _, p := range []*lab.Puppet{v.client, v.server, v.nest} {
		p.Finish()
	}
}
