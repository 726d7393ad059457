package storekit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/picosnitch/picosnitch/sdk"
)

// Subnet gives the first and the last address of a subnet such as 192.168.0.0/16 or fe80::/10, 4 or 16 bytes each; an
// address alone is both. Addresses of the subnet have as many bytes and lie between them. An IPv4 address that is written
// as an IPv6 one is taken as IPv4, since it is stored so.
func Subnet(text []byte) (first, last []byte, err error) {
	prefix, err := parsePrefix(string(text))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %q is not a subnet such as 192.168.0.0/16 or fe80::/10", sdk.ErrQuery, sdk.Escape(text))
	}
	first = prefix.Masked().Addr().AsSlice()
	last = slices.Clone(first)
	for bit := prefix.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return first, last, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		address = address.Unmap().WithZone("")
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
