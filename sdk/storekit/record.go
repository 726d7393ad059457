package storekit

import (
	"bytes"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Flow is the flow of a record: also of an execution, which picosnitch 1.0.3 showed among the connections as one without
// ports, addresses and bytes. The processes are shared with the record. It is nil for any other kind.
func Flow(r *wire.Record) *wire.Flow {
	if e := r.GetExec(); e != nil {
		return &wire.Flow{Window: e.GetWindow(), Process: e.GetProcess(), Parent: e.GetParent(), Grandparent: e.GetGrandparent()}
	}
	return r.GetFlow()
}

// Site is the part of a name that somebody registered, turned round as domains are: com.example for www.example.com,
// uk.co.example for a.b.example.co.uk. A name that is no more than a public suffix, or is none of the domain name system,
// is its own. An address in place of a name, as picosnitch 1.0.3 stored it, has none: "". The text is escaped.
func Site(name []byte) string {
	domain := string(lower(name))
	if _, err := netip.ParseAddr(domain); err == nil {
		return ""
	}
	if site, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil && strings.HasSuffix(domain, site) {
		domain = site
	}
	return sdk.Reversed([]byte(domain))
}

// lower makes letters of ASCII small, and leaves all other bytes as they are: a name need not be text.
func lower(name []byte) []byte {
	small := bytes.Clone(name)
	for i, c := range small {
		if 'A' <= c && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	return small
}
