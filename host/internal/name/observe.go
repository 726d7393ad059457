package name

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/name/answer"
	"github.com/picosnitch/picosnitch/host/internal/name/hello"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const portDNS = 53

// Observe takes a payload and learns the names in it. It never fails: what cannot be read has no names, and is counted.
//
// Received from port 53, it is a DNS answer; sent, it may be the client hello of TLS or QUIC, whatever its port is. A
// client hello that is received names this machine's server, not the peer, and is ignored.
func (t *Table) Observe(p Payload) {
	answers, h := t.streams.observe(&p)
	owner := Owner{Process: p.Process, UID: p.UID, NetNS: p.NetNS}
	for _, a := range answers {
		t.learnAnswer(owner, &a, p.Time)
	}
	if h.Name == "" {
		return
	}
	source := wire.NameSource_NAME_SOURCE_SNI
	if h.Outer {
		source = wire.NameSource_NAME_SOURCE_SNI_OUTER
	}
	t.Learn(Fact{
		Owner: owner, Source: source, Name: h.Name, Address: p.Remote.Addr(), Socket: p.Socket, Time: p.Time,
	})
}

func (t *Table) learnAnswer(o Owner, a *answer.Answer, now int64) {
	for _, address := range a.Addresses {
		t.Learn(Fact{
			Owner: o, Source: wire.NameSource_NAME_SOURCE_DNS_PROCESS, Name: a.Name, Aliases: a.Aliases,
			Address: address.IP, TTL: min(address.TTL, 366*24*time.Hour), Time: now,
		})
	}
}

// observe gives what a payload says, by what it can be.
func (s *streams) observe(p *Payload) (answers []answer.Answer, h hello.Hello) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Payloads++
	s.expireLocked(p.Time)
	dns := p.Remote.Port() == portDNS
	switch p.Protocol {
	case unix.IPPROTO_UDP:
		switch {
		case dns && p.Received:
			answers = s.datagramLocked(p)
		case dns:
			s.asksLocked(p)
		case !p.Received:
			h = s.quicLocked(p)
		}
	case unix.IPPROTO_TCP, unix.IPPROTO_MPTCP:
		switch {
		case dns && p.Received:
			answers = s.answersLocked(p)
		case !dns && !p.Received:
			h = s.tlsLocked(p)
		}
	}
	s.count.Answers += uint64(len(answers))
	if h.Name != "" {
		s.count.Hellos++
	}
	return answers, h
}
