package reverse

import (
	"net/netip"
	"slices"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/name"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Ports that name servers listen on.
const (
	portDNS        = 53
	portDNSOverTLS = 853
)

// nameServers are the addresses that anybody asked, or may have asked, for names.
func nameServers(w *capture.Window) map[netip.Addr]bool {
	servers := map[netip.Addr]bool{}
	for i := range w.Flows {
		if remote := w.Flows[i].Remote; remote.Port() == portDNS || remote.Port() == portDNSOverTLS {
			servers[remote.Addr().Unmap().WithZone("")] = true
		}
	}
	return servers
}

// inTurn gives the nameless addresses of records that may be asked about, as many as one helper takes, each once. One user's
// many addresses leave room for another's few.
func inTurn(records []*wire.Record, may func(netip.Addr) bool) []netip.Addr {
	var users []uint32
	of, seen := map[uint32][]netip.Addr{}, map[netip.Addr]bool{}
	for _, r := range records {
		address, ok := nameless(r.GetFlow())
		if !ok || seen[address] || !may(address) {
			continue
		}
		seen[address] = true
		uid := r.GetFlow().GetProcess().GetRuid()
		if of[uid] == nil {
			users = append(users, uid)
		}
		of[uid] = append(of[uid], address)
	}
	var batch []netip.Addr
	for turn := 0; len(users) > 0 && len(batch) < helper.MaxReverse; turn++ {
		users = slices.DeleteFunc(users, func(uid uint32) bool { return turn >= len(of[uid]) })
		for _, uid := range users[:min(len(users), helper.MaxReverse-len(batch))] {
			batch = append(batch, of[uid][turn])
		}
	}
	return batch
}

// nameless gives the remote address of a flow if nothing names it but an earlier reverse look-up, which grows old. A record
// without the address, since it is not to be recorded, is not asked about.
func nameless(f *wire.Flow) (netip.Addr, bool) {
	for _, d := range f.GetDomains() {
		if d.GetSource() != wire.NameSource_NAME_SOURCE_PTR {
			return netip.Addr{}, false
		}
	}
	address, ok := netip.AddrFromSlice(f.GetRemote().GetIp())
	if !ok {
		return netip.Addr{}, false
	}
	return name.Nameable(address)
}
