package store

import (
	"bytes"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/picosnitch/picosnitch/sdk"
)

// siteOf is the part of a name that somebody registered, turned round as domains are: com.example for www.example.com,
// uk.co.example for a.b.example.co.uk. A name that is no more than a public suffix, or is none of the domain name system,
// is its own.
func siteOf(name []byte) string {
	domain := string(lower(name))
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
