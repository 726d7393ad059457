package record

import wire "github.com/picosnitch/picosnitch/sdk/proto"

// bestDomain picks the one that stands in the column `domain`, or nil: what this process was told comes before what its
// neighbours were told. Names that say nothing of the intention (reverse look-ups, outer names of an encrypted client
// hello) never stand there. Of equal sources the youngest counts.
func bestDomain(domains []*wire.Domain) *wire.Domain {
	var best *wire.Domain
	for _, d := range domains {
		if rank := domainRank(d.GetSource()); rank == 0 {
			continue
		} else if old := domainRank(best.GetSource()); rank > old || rank == old && d.GetAge() < best.GetAge() {
			best = d
		}
	}
	return best
}

func domainRank(source wire.NameSource) int {
	switch source {
	case wire.NameSource_NAME_SOURCE_GETADDRINFO:
		return 4
	case wire.NameSource_NAME_SOURCE_DNS_PROCESS:
		return 3
	case wire.NameSource_NAME_SOURCE_SNI:
		return 2
	case wire.NameSource_NAME_SOURCE_DNS_NAMESPACE:
		return 1
	}
	return 0
}
