package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// logIgnore is the key whose entries are read here.
const logIgnore = "Log ignore"

// ignore sorts the entries of `Log ignore`: a port is a number (1.0.3 took it for the address 0.0.1.187), 64 hexadecimal
// digits are a hash, what reads as an address is a subnet, anything else a reversed domain. An entry that is none of
// these is reported and passed over: it never silences more than was meant.
func (l *loader) ignore(members object) Ignore {
	var out Ignore
	n, _ := members.find(logIgnore)
	entries, _ := n.value.([]node)
	for i, e := range entries {
		if what, hint := out.add(e); what != "" {
			l.report(Warning, e.at, fmt.Sprintf("%s[%d]", logIgnore, i), what, hint)
		}
	}
	return out
}

// add takes one entry, or says what is wrong with it.
func (g *Ignore) add(n node) (what, hint string) {
	var text string
	switch v := n.value.(type) {
	case number:
		text = string(v)
	case string:
		text = strings.ToLower(v)
	default:
		return "must be a port, a SHA-256, an address, a subnet or a reversed domain", ""
	}
	if _, err := strconv.Atoi(text); err == nil || isNumber(n) {
		return g.addPort(text)
	}
	if hash, err := hex.DecodeString(text); err == nil && len(text) >= 40 {
		return g.addHash(hash)
	}
	if strings.ContainsAny(text, "/:") || isDotted(text) {
		return g.addSubnet(text)
	}
	return g.addDomain(text)
}

func isNumber(n node) bool {
	_, ok := n.value.(number)
	return ok
}

func (g *Ignore) addPort(text string) (what, hint string) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "is not a port", "ports are whole numbers from 0 to 65535"
	}
	g.Ports = append(g.Ports, uint16(port))
	return "", ""
}

func (g *Ignore) addHash(hash []byte) (what, hint string) {
	if len(hash) != 32 {
		return "is not a SHA-256", "it has 64 hexadecimal digits"
	}
	g.Hashes = append(g.Hashes, [32]byte(hash))
	return "", ""
}

func (g *Ignore) addSubnet(text string) (what, hint string) {
	prefix, err := netip.ParsePrefix(text)
	if address, aerr := netip.ParseAddr(text); aerr == nil && address.Zone() == "" {
		prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	if err != nil {
		return "is not an address or subnet", "write 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32"
	}
	if prefix != prefix.Masked() {
		return "is not a subnet: bits after its length are set", "write the first address of the subnet, or a single address without /"
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return "is not a subnet of IPv4 or IPv6 addresses", ""
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	g.Subnets = append(g.Subnets, prefix)
	return "", ""
}

func (g *Ignore) addDomain(text string) (what, hint string) {
	const usage = "domains are written from the right: org.example for example.org and all below it"
	if text == "" || len(text) > 253 {
		return "is not a domain", usage
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 || strings.IndexFunc(label, notOfDomain) >= 0 {
			return "is not a domain", usage
		}
	}
	g.Domains = append(g.Domains, text)
	return "", ""
}

func notOfDomain(r rune) bool {
	return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
}

// isDotted tells what was meant as an IPv4 address: nothing but digits and points.
func isDotted(text string) bool { return text != "" && strings.Trim(text, "0123456789.") == "" }
