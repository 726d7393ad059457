package record

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// windowOf is the span of a window; its zone is that of the recording host when it ended.
func windowOf(start, end capture.Moment, zone *time.Location) *wire.Window {
	_, offset := time.Unix(0, end.UTC).In(zone).Zone()
	return &wire.Window{
		Start: start.UTC, End: end.UTC, StartBoot: start.Boot, EndBoot: end.Boot, ZoneOffset: int32(offset),
	}
}

func (r *row) record(window *wire.Window) *wire.Record {
	flow := &wire.Flow{
		Window: window, Sent: r.sent, Received: r.received, Sends: r.sends, Receives: r.receives,
		Connects: r.connects, Accepts: r.accepts, Failures: r.failures, Listens: r.listens,
		Direction: r.direction, Result: r.result, Layer: r.layer, Family: uint32(r.family), Protocol: uint32(r.protocol),
		Local: r.local.wire(r.mapped), Remote: r.remote.wire(r.mapped), Peer: r.peer, FoldedPeers: r.folded,
		Domain: r.bestDomain, Domains: r.domains, Socket: r.socket, Netns: r.netns, Ifindex: r.ifindex,
		Process: r.process, Parent: r.parent, Grandparent: r.grandparent,
		Attribution: r.attribution, Counting: r.counting, Existing: r.existing,
	}
	for _, c := range r.candidates {
		flow.Candidates = append(flow.Candidates, c.wire(r.mapped))
	}
	return &wire.Record{Kind: &wire.Record_Flow{Flow: flow}}
}

func (e end) wire(mapped bool) *wire.Endpoint {
	return &wire.Endpoint{Ip: e.addr.AsSlice(), Port: e.port, ScopeId: scopeOf(e.addr), Mapped: mapped && e.addr.Is4()}
}

// scopeOf is the interface of a link-local address. Capture writes it as a number: it is of another namespace's names.
func scopeOf(a netip.Addr) uint32 {
	n, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
