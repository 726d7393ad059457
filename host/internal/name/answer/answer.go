// Package answer reads what a DNS server answered: which name was asked for, and which addresses it has.
//
// A message is bytes of an adversary. Parse never follows more than the few compression pointers that
// golang.org/x/net/dns/dnsmessage allows, and gives up on more records than an honest answer has.
package answer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ErrNone is wrapped where a message is sound but says nothing of addresses: a question, a refusal, another type.
var ErrNone = errors.New("no answer with addresses")

const (
	maxRecords = 512 // of the answer section
	maxFacts   = 128 // addresses and aliases in them
	maxChain   = 16  // resolvers give up earlier
)

// Answer is one name with its addresses.
type Answer struct {
	Name      string   // as asked for: in lower case, without the final dot
	Aliases   []string // what the name stands for (CNAME), in the order of the chain
	Addresses []Address
}

// Address is one address of the name, and how long the whole way from the name to it may be remembered.
type Address struct {
	IP  netip.Addr
	TTL time.Duration
}

// record is what one resource record contributes.
type record struct {
	owner  string
	target string // of a CNAME
	ip     netip.Addr
	ttl    uint32
}

// Parse reads one DNS message, without the length that goes before it over TCP. Any error means that nothing was learned.
func Parse(message []byte) (Answer, error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil {
		return Answer{}, fmt.Errorf("read a DNS header: %w", err)
	}
	if !header.Response || header.OpCode != 0 || header.RCode != dnsmessage.RCodeSuccess {
		return Answer{}, fmt.Errorf("a message that is no successful response: %w", ErrNone)
	}
	question, err := onlyQuestion(&p)
	if err != nil {
		return Answer{}, err
	}
	if !addressed(question) {
		return Answer{}, fmt.Errorf("a question of type %s: %w", question.Type, ErrNone)
	}
	records, err := answers(&p, message)
	if err != nil {
		return Answer{}, err
	}
	a := follow(hostname(question.Name), records)
	a.Name = withoutService(a.Name, question.Type)
	if len(a.Addresses) == 0 {
		return Answer{}, ErrNone
	}
	return a, nil
}

// onlyQuestion refuses messages with another number of questions: then no name is the one that was asked for.
func onlyQuestion(p *dnsmessage.Parser) (dnsmessage.Question, error) {
	q, err := p.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, fmt.Errorf("a response without a question: %w", ErrNone)
	}
	if err != nil {
		return q, fmt.Errorf("read a DNS question: %w", err)
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, errors.New("read a DNS message: more than one question")
	}
	return q, nil
}

func addressed(q dnsmessage.Question) bool {
	switch q.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB, dnsmessage.TypeALL:
		return q.Class == dnsmessage.ClassINET
	}
	return false
}

// answers reads the answer section. A record that is cut off or malformed spoils the whole message.
func answers(p *dnsmessage.Parser, message []byte) ([]record, error) {
	// A record has eleven bytes at least, so no count makes this larger than the message is.
	records := make([]record, 0, min(int(binary.BigEndian.Uint16(message[6:])), len(message)/11, 16))
	for n := 0; ; n++ {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read answer %d: %w", n, err)
		}
		if n == maxRecords || len(records) > maxFacts {
			return nil, fmt.Errorf("read answer %d: too many records", n)
		}
		if records, err = body(p, h, records); err != nil {
			return nil, fmt.Errorf("read answer %d (%s): %w", n, h.Type, err)
		}
	}
}

// body appends what one record says.
func body(p *dnsmessage.Parser, h dnsmessage.ResourceHeader, records []record) ([]record, error) {
	if h.Class != dnsmessage.ClassINET {
		return records, p.SkipAnswer()
	}
	r := record{owner: hostname(h.Name), ttl: h.TTL}
	// The library reads an address whatever length its record claims; resolvers do not.
	if h.Type == dnsmessage.TypeA && h.Length != 4 || h.Type == dnsmessage.TypeAAAA && h.Length != 16 {
		return nil, fmt.Errorf("an address of %d bytes", h.Length)
	}
	switch h.Type {
	case dnsmessage.TypeA:
		a, err := p.AResource()
		r.ip = netip.AddrFrom4(a.A)
		return append(records, r), err
	case dnsmessage.TypeAAAA:
		a, err := p.AAAAResource()
		r.ip = netip.AddrFrom16(a.AAAA).Unmap()
		return append(records, r), err
	case dnsmessage.TypeCNAME:
		c, err := p.CNAMEResource()
		r.target = hostname(c.CNAME)
		return append(records, r), err
	case dnsmessage.TypeHTTPS:
		s, err := p.HTTPSResource()
		return append(records, hints(r, &s.SVCBResource)...), err
	case dnsmessage.TypeSVCB:
		s, err := p.SVCBResource()
		return append(records, hints(r, &s)...), err
	}
	return records, p.SkipAnswer()
}

// hints are the addresses that a service binding carries along (RFC 9460, section 7.3), so that none need be asked for.
func hints(r record, s *dnsmessage.SVCBResource) []record {
	var out []record
	for _, p := range s.Params {
		size := 0
		switch p.Key {
		case dnsmessage.SVCParamIPv4Hint:
			size = 4
		case dnsmessage.SVCParamIPv6Hint:
			size = 16
		default:
			continue
		}
		for at := 0; at+size <= len(p.Value) && len(out) < maxFacts; at += size {
			r.ip, _ = netip.AddrFromSlice(p.Value[at : at+size])
			r.ip = r.ip.Unmap()
			out = append(out, r)
		}
	}
	return out
}

// follow goes along the chain of aliases from name. Records off the chain answer something that nobody asked.
func follow(name string, records []record) Answer {
	a := Answer{Name: name}
	ttl := ^uint32(0)
	for at := name; at != ""; {
		next := ""
		for _, r := range records {
			switch {
			case r.owner != at:
			case r.ip.IsValid():
				a.Addresses = append(a.Addresses, Address{r.ip, lifetime(min(ttl, r.ttl))})
			case next == "" && r.target != "":
				next, ttl = r.target, min(ttl, r.ttl)
			}
		}
		if next != "" {
			a.Aliases = append(a.Aliases, next)
		}
		if at = next; len(a.Aliases) > maxChain {
			return Answer{Name: name} // a loop
		}
	}
	return a
}

// lifetime takes a value with the highest bit set for zero (RFC 2181, section 8).
func lifetime(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// hostname is a name in lower case without its final dot: resolvers change the case of letters at random to make forged
// answers harder.
func hostname(n dnsmessage.Name) string {
	raw := n.Data[:n.Length]
	if len(raw) > 0 && raw[len(raw)-1] == '.' {
		raw = raw[:len(raw)-1]
	}
	return lower(string(raw))
}

// lower changes ASCII letters only: other bytes belong to no alphabet that DNS knows.
func lower(name string) string {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			b := []byte(name)
			for i, c := range b {
				if 'A' <= c && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return name
}

// withoutService takes the port and scheme labels off the name of a service binding: _8443._https.example.org.
func withoutService(name string, t dnsmessage.Type) string {
	if t != dnsmessage.TypeHTTPS && t != dnsmessage.TypeSVCB {
		return name
	}
	for strings.HasPrefix(name, "_") {
		_, rest, found := strings.Cut(name, ".")
		if !found {
			return name
		}
		name = rest
	}
	return name
}
