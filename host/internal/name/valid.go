package name

import (
	"net/netip"
	"strings"
)

// maxName is the longest name that DNS can hold, as text without the final dot.
const maxName = 253

// maxAliases of a name are kept as candidates.
const maxAliases = 4

// Nameable tells whether an address can have a name, and gives the form in which it is looked up. An address that means
// another host in another place or moment cannot: a single answer "127.0.0.1" would name all local traffic.
func Nameable(a netip.Addr) (netip.Addr, bool) {
	a = a.Unmap()
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return a, false
	case a.Is4():
		b := a.As4()
		return a, b[0] != 0 && b[0] < 240 // 0/8 is this host (RFC 6890); from 240 on nothing is assigned but broadcast
	}
	return a.WithZone(""), true
}

// hostname gives a name in lower case without its final dot, and false for what no host can be called: addresses, empty
// labels, blanks and control characters. Other bytes stay: UTF-8 is in use, and readers escape.
func hostname(raw string) (string, bool) {
	name := strings.TrimSuffix(raw, ".")
	if name == "" || len(name) > maxName {
		return "", false
	}
	upper, label := false, 0
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ', c == 0x7f, c == ':', c == '[', c == ']', c == '/', c == '%':
			return "", false
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = -1
		case 'A' <= c && c <= 'Z':
			upper = true
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if isAddress(name[strings.LastIndexByte(name, '.')+1:]) {
		return "", false
	}
	if upper {
		name = lower(name)
	}
	return name, true
}

// isAddress tells that a name ending in this label is an IPv4 address in one of its many forms: 127.1, 0x7f.1, 2130706433.
func isAddress(last string) bool {
	hex := len(last) > 1 && last[0] == '0' && last[1]|0x20 == 'x'
	for i := range len(last) {
		digit := '0' <= last[i] && last[i] <= '9'
		letter := 'a' <= last[i]|0x20 && last[i]|0x20 <= 'f'
		if !digit && !(hex && (i == 1 || letter)) {
			return false
		}
	}
	return last != ""
}

// lower changes ASCII letters only, so that bytes of no known alphabet stay what they are.
func lower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
