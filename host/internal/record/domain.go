package record

import (
	"github.com/picosnitch/picosnitch/host/internal/name"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// bestDomain picks the one that stands in the column `domain`, or nil: what this process was told comes before what its
// neighbours were told. Names that say nothing of the intention (reverse look-ups, outer names of an encrypted client
// hello) never stand there. Of equal sources the youngest counts.
func bestDomain(domains []*wire.Domain) *wire.Domain {
	var best *wire.Domain
	for _, d := range domains {
		if rank := name.Rank(d.GetSource()); rank == 0 {
			continue
		} else if old := name.Rank(best.GetSource()); rank > old || rank == old && d.GetAge() < best.GetAge() {
			best = d
		}
	}
	return best
}
