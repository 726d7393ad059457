package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxAddresses bounds what one name may stand for.
const maxAddresses = 64

// Lookup finds the addresses of a name; [net.Resolver.LookupNetIP] with "ip" is one.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// Book knows the addresses of peers.
type Book struct {
	peers  []Peer
	lookup Lookup
	known  map[string][]netip.Addr // of names; the last answer that there was
}

// NewBook is empty until it is refreshed.
func NewBook(peers []Peer, lookup Lookup) *Book {
	return &Book{peers: peers, lookup: lookup, known: map[string][]netip.Addr{}}
}

// Refresh looks all names up. What cannot be found keeps its former addresses and is told by the error.
func (b *Book) Refresh(ctx context.Context) error {
	var errs []error
	done := map[string]bool{}
	for _, p := range b.peers {
		if _, err := netip.ParseAddr(p.Host); err == nil || done[p.Host] {
			continue
		}
		done[p.Host] = true
		found, err := b.lookup(ctx, p.Host)
		if err == nil && len(found) == 0 {
			err = errors.New("it has no address")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("look up %s: %w", p.Host, err))
			continue
		}
		for i, addr := range found {
			found[i] = addr.Unmap().WithZone("")
		}
		slices.SortFunc(found, netip.Addr.Compare)
		found = slices.Compact(found)
		b.known[p.Host] = found[:min(len(found), maxAddresses)]
	}
	return errors.Join(errs...)
}

// Addresses are all that may be talked to, sorted.
func (b *Book) Addresses() []netip.AddrPort {
	var all []netip.AddrPort
	for _, p := range b.peers {
		if addr, err := netip.ParseAddr(p.Host); err == nil {
			all = append(all, netip.AddrPortFrom(addr.Unmap(), p.Port))
		}
		for _, addr := range b.known[p.Host] {
			all = append(all, netip.AddrPortFrom(addr, p.Port))
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// Hosts is the text of a hosts file with the names known.
func (b *Book) Hosts() []byte {
	var text strings.Builder
	text.WriteString("# Written by picosnitch: what this plugin may talk to.\n127.0.0.1 localhost\n::1 localhost\n")
	done := map[string]bool{}
	for _, p := range b.peers {
		if done[p.Host] {
			continue
		}
		done[p.Host] = true
		for _, addr := range b.known[p.Host] {
			fmt.Fprintf(&text, "%s %s\n", addr, p.Host)
		}
	}
	return []byte(text.String())
}
