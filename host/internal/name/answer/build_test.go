package answer

import (
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// reply builds a response to a question.
type reply struct {
	t        testing.TB
	header   dnsmessage.Header
	question dnsmessage.Question
	records  []dnsmessage.Resource
}

func newReply(t testing.TB, name string, kind dnsmessage.Type) *reply {
	return &reply{
		t: t, header: dnsmessage.Header{ID: 7, Response: true},
		question: dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET},
	}
}

func (r *reply) add(owner string, ttl uint32, body dnsmessage.ResourceBody) *reply {
	r.records = append(r.records, dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body,
	})
	return r
}

func (r *reply) address(owner string, ttl uint32, ip string) *reply {
	a := netip.MustParseAddr(ip)
	if a.Is4() {
		return r.add(owner, ttl, &dnsmessage.AResource{A: a.As4()})
	}
	return r.add(owner, ttl, &dnsmessage.AAAAResource{AAAA: a.As16()})
}

func (r *reply) alias(owner string, ttl uint32, target string) *reply {
	return r.add(owner, ttl, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)})
}

func (r *reply) bytes() []byte {
	r.t.Helper()
	m := dnsmessage.Message{Header: r.header, Questions: []dnsmessage.Question{r.question}, Answers: r.records}
	raw, err := m.Pack()
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}
