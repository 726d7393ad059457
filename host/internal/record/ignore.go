package record

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ignorer answers whether `Log ignore` drops the row of a flow. It is read-only after newIgnorer.
type ignorer struct {
	hashes  map[[32]byte]bool
	domains []string // lower case, reversed, without a final dot
	subnets []netip.Prefix
	ports   map[uint16]bool
}

func newIgnorer(o Ignore) *ignorer {
	i := &ignorer{hashes: map[[32]byte]bool{}, ports: map[uint16]bool{}}
	for _, hash := range o.Hashes {
		i.hashes[hash] = true
	}
	for _, domain := range o.Domains {
		if domain = strings.Trim(strings.ToLower(domain), "."); domain != "" {
			i.domains = append(i.domains, domain)
		}
	}
	for _, subnet := range o.Subnets {
		i.subnets = append(i.subnets, unmapPrefix(subnet))
	}
	for _, port := range o.Ports {
		i.ports[port] = true
	}
	return i
}

// unmapPrefix makes ::ffff:10.0.0.0/104 the 10.0.0.0/8 that it means: flows carry unmapped addresses.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func (i *ignorer) ignores(f *capture.Flow, process *wire.Process, domain *wire.Domain) bool {
	if len(i.hashes) > 0 {
		if hash := process.GetExecutable().GetSha256(); len(hash) == 32 && i.hashes[[32]byte(hash)] {
			return true
		}
	}
	if len(i.ports) > 0 && (i.port(f, f.Local) || i.port(f, f.Remote)) {
		return true
	}
	return i.subnet(f.Remote.Addr()) || i.domain(domain)
}

func (i *ignorer) port(f *capture.Flow, a netip.AddrPort) bool {
	port := portOf(f, a)
	return port >= 0 && i.ports[uint16(port)]
}

func (i *ignorer) subnet(remote netip.Addr) bool {
	remote = remote.WithZone("") // a Prefix contains no address with a zone
	for _, subnet := range i.subnets {
		if subnet.Contains(remote) {
			return true
		}
	}
	return false
}

// domain compares whole labels: "com.example" is not the beginning of "com.examples".
func (i *ignorer) domain(domain *wire.Domain) bool {
	if len(i.domains) == 0 || domain == nil {
		return false
	}
	name := reverseDomain(string(domain.GetName().GetValue()))
	for _, ignored := range i.domains {
		if rest, ok := strings.CutPrefix(name, ignored); ok && (rest == "" || rest[0] == '.') {
			return true
		}
	}
	return false
}

// reverseDomain gives org.example.www for www.Example.org.
func reverseDomain(name string) string {
	labels := strings.Split(strings.Trim(strings.ToLower(name), "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}
