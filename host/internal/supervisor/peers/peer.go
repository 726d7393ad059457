package peers

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Peer is one that may be talked to.
type Peer struct {
	Host string // a name in lower case, or an address
	Port uint16
}

// errPeer says what a peer looks like.
var errPeer = errors.New(`want "host:port", such as "db.example.org:5432" or "[2001:db8::1]:443"`)

// Parse reads "host:port".
func Parse(text string) (Peer, error) {
	host, service, err := net.SplitHostPort(text)
	if err != nil {
		return Peer{}, fmt.Errorf("peer %.80q: %w", text, errPeer)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return Peer{}, fmt.Errorf("peer %.80q: %w", text, errPeer)
	}
	p := Peer{Host: strings.ToLower(host), Port: uint16(port)}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return Peer{}, fmt.Errorf("peer %.80q: a zone cannot be granted", text)
		}
		return p, nil
	}
	label := `[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?`
	if len(host) > 253 || !regexp.MustCompile(`^`+label+`(\.`+label+`)*$`).MatchString(p.Host) {
		return Peer{}, fmt.Errorf("peer %.80q: %w", text, errPeer)
	}
	return p, nil
}

// ParseAll reads all of them.
func ParseAll(texts []string) ([]Peer, error) {
	var all []Peer
	for _, text := range texts {
		p, err := Parse(text)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
