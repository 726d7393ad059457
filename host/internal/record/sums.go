package record

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"golang.org/x/sys/unix"
)

// candidateLimit bounds the list of an inferred peer; the bytes stay exact.
const candidateLimit = 16

// end is an endpoint as it is recorded: after the privacy switches.
type end struct {
	addr netip.Addr
	port int32 // -1: has none
}

// tuple is everything that rows of one window may differ in. Flows with the same tuple become one row.
type tuple struct {
	process, parent, grandparent *wire.Process // from people: equal content has the same address
	layer                        wire.Layer
	family, protocol             uint16
	local, remote                end
	mapped                       bool
	peer                         wire.Peer
	direction                    wire.Direction
	result                       wire.Result
	netns, ifindex               uint32
	attribution                  wire.Attribution
	counting                     wire.Counting
	existing                     bool
	domain                       string // name of the domain, behind its source
}

// row is a sum in the making.
type row struct {
	tuple
	sent, received, sends, receives      uint64
	connects, accepts, failures, listens uint64
	folded                               uint64 // peers
	candidates                           []end
	socket                               uint64 // 0 when there are several
	bestDomain                           *wire.Domain
	domains                              []*wire.Domain
}

// sums adds the flows of one window up.
type sums struct {
	options Options
	ignorer *ignorer
	people  *people
	rows    map[tuple]*row

	flows, portZero, ignored     uint64
	ignoredSent, ignoredReceived uint64
	processes, parents           map[*wire.Process]bool // also of what is ignored
}

func newSums(o Options, i *ignorer, v privacy) *sums {
	return &sums{
		options: o, ignorer: i, people: newPeople(v), rows: map[tuple]*row{},
		processes: map[*wire.Process]bool{}, parents: map[*wire.Process]bool{},
	}
}

func (s *sums) add(f *capture.Flow, l identity.Lineage) {
	s.flows++
	if l.Process == nil {
		l.Process = stranger(f)
	}
	l = s.people.lineage(l)
	s.processes[l.Process] = true
	if l.Parent != nil {
		s.parents[l.Parent] = true
	}
	var domains []*wire.Domain
	if s.options.Domains != nil {
		domains = s.options.Domains(f)
	}
	best := bestDomain(domains)
	switch {
	case sortsAddresses(f):
		s.portZero++
	case s.ignorer.ignores(f, l.Process, best):
		s.ignored++
		s.ignoredSent += f.Sent
		s.ignoredReceived += f.Received
	default:
		if !s.options.Addresses {
			domains, best = nil, nil
		}
		s.sum(s.row(f, l, domains, best))
	}
}

// sortsAddresses tells a UDP connect to port 0: the C library asks the kernel for a route so, nothing is sent.
func sortsAddresses(f *capture.Flow) bool {
	return f.Protocol == unix.IPPROTO_UDP && f.Remote.IsValid() && f.Remote.Port() == 0 &&
		f.Sends == 0 && f.Receives == 0 && f.Sent == 0 && f.Received == 0
}

func (s *sums) sum(r *row) {
	if old, ok := s.rows[r.tuple]; ok {
		old.add(r)
		return
	}
	s.rows[r.tuple] = r
}

func (r *row) add(o *row) {
	r.sent += o.sent
	r.received += o.received
	r.sends += o.sends
	r.receives += o.receives
	r.connects += o.connects
	r.accepts += o.accepts
	r.failures += o.failures
	r.listens += o.listens
	r.folded += o.folded
	if r.socket != o.socket {
		r.socket = 0
	}
	r.candidates = append(r.candidates, o.candidates...)
	if o.bestDomain.GetAge() < r.bestDomain.GetAge() {
		r.bestDomain, r.domains = o.bestDomain, o.domains
	}
}

// row applies the privacy switches to one flow.
func (s *sums) row(f *capture.Flow, l identity.Lineage, domains []*wire.Domain, best *wire.Domain) *row {
	r := &row{
		tuple: tuple{
			process: l.Process, parent: l.Parent, grandparent: l.Grandparent,
			layer: f.Layer, family: f.Family, protocol: f.Protocol,
			local: s.end(f, f.Local, true), remote: s.end(f, f.Remote, s.options.Addresses),
			mapped: f.Mapped, peer: f.Peer, direction: f.Direction, result: f.Result,
			netns: f.NetNS, ifindex: f.Ifindex, attribution: f.Attribution, counting: f.Counting, existing: f.Existing,
		},
		sent: f.Sent, received: f.Received, sends: f.Sends, receives: f.Receives,
		connects: f.Connects, accepts: f.Accepts, failures: f.Failures, listens: f.Listens,
		folded: f.FoldedPeers, socket: f.Socket, bestDomain: best, domains: domains,
	}
	if f.Mapped {
		r.family = unix.AF_INET // of the addresses
	}
	if best != nil {
		r.domain = strconv.Itoa(int(best.GetSource())) + string(best.GetName().GetValue())
	}
	if s.options.Addresses {
		for _, c := range f.Candidates {
			r.candidates = append(r.candidates, s.end(f, c, true))
		}
	}
	return r
}

func (s *sums) end(f *capture.Flow, a netip.AddrPort, address bool) end {
	e := end{addr: a.Addr(), port: portOf(f, a)}
	if !address {
		e.addr = netip.Addr{}
	}
	if !s.options.Ports {
		e.port = min(e.port, 0)
	}
	return e
}

// portOf is -1 where the protocol, or a raw socket, has no ports, or where there is no endpoint.
func portOf(f *capture.Flow, a netip.AddrPort) int32 {
	if f.Raw {
		return -1
	}
	switch f.Protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_MPTCP:
		if a.Addr().IsValid() || a.Port() != 0 {
			return int32(a.Port())
		}
	}
	return -1
}

// result gives the rows in their order, within the shares, and how many were folded away.
func (s *sums) result() (rows []*row, folded int) {
	for _, r := range s.rows {
		slices.SortFunc(r.candidates, compareEnds)
		r.candidates = slices.Compact(r.candidates)
		r.candidates = r.candidates[:min(len(r.candidates), candidateLimit)]
		rows = append(rows, r)
	}
	slices.SortFunc(rows, compareRows)
	kept := shares(rows, s.options.Rows)
	if len(kept) != len(rows) {
		slices.SortStableFunc(kept, compareRows)
	}
	return kept, len(rows) - len(kept)
}
