package name

import (
	"net/netip"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// MaxPayload is the most bytes that the kernel side hands over at once.
const MaxPayload = 2048

// Payload is the beginning of what one call of a process sent or received. Observe keeps nothing of Data.
type Payload struct {
	Process  capture.Key
	Socket   uint64 // cookie
	NetNS    uint32 // inode
	UID      uint32 // real
	Protocol uint16 // IPPROTO_*
	Remote   netip.AddrPort
	Received bool   // else sent
	Time     int64  // boot ns
	Offset   uint64 // of Data in its direction of the stream; 0 for datagrams
	Data     []byte // at most MaxPayload: of a stream the rest comes with the next, of a datagram it is missing
}

// Owner is who learned a name.
type Owner struct {
	Process capture.Key
	UID     uint32 // real
	NetNS   uint32 // inode
}

// Fact is that an address has a name. One that counts for a process or a socket needs to say which.
type Fact struct {
	Owner
	Source  wire.NameSource
	Name    string   // in usual order; any case, a final dot does no harm
	Aliases []string // what Name stands for: further candidates, never before a name that was asked for
	Address netip.Addr
	Socket  uint64        // only for the sources SNI and SNI_OUTER
	TTL     time.Duration // ignored for getaddrinfo and server names, which have none
	Time    int64         // boot ns
}
