package name

import (
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// Options bound what is kept. No user, and so no process, gets more than 1/8 of any bound. Zero values mean the defaults.
type Options struct {
	Addresses   int           // with names, counted once for each scope; default 65536
	Bytes       int           // of memory for them; default 12 MiB
	Connections int           // whose names are kept while they live; default 32768
	KeptBytes   int           // of memory for them; default 6 MiB
	Streams     int           // being put together; default 4096
	StreamBytes int           // of memory for them; default 4 MiB
	StreamAge   time.Duration // without a payload after which one is given up; default 30 s
	Grace       time.Duration // after the time to live is over; default 2 min
	MaxTTL      time.Duration // that is believed; default 24 h
	Lookup      time.Duration // for which a result of getaddrinfo, which has no TTL, counts after its last use; default 1 h
	FirstUser   uint32        // users from this on are ordinary, those below are of the system; default 1000
	// Asked makes UDP answers count only if the question was seen on the same socket, so that nobody can send a forged
	// answer to a socket that asked nothing. It needs the payloads sent to port 53.
	Asked bool
	// Parent gives the process that another was forked from without having executed anything since, and false if there
	// is none or it is not known. What the parent looked up counts for the child. It may be nil; it is called without locks.
	Parent func(capture.Key) (capture.Key, bool)
}

// Counters are totals since New, and what is held now.
type Counters struct {
	Payloads  uint64 // observed
	Answers   uint64 // DNS answers with addresses
	Hellos    uint64 // payloads that told a server name
	Malformed uint64 // DNS messages that could not be read
	Unasked   uint64 // answers without a question, see Options.Asked
	Facts     uint64 // learned
	Refused   uint64 // facts whose address or name can have no name or be none

	AddressesLost   uint64 // to the bounds or to a share of them; not what has simply expired
	ConnectionsLost uint64 // likewise; which of them had ended is not known
	StreamsLost     uint64

	Addresses, Bytes       int
	Connections, KeptBytes int
	Streams, StreamBytes   int
}

func (o Options) withDefaults() Options {
	number := func(v *int, standard int) {
		if *v <= 0 {
			*v = standard
		}
	}
	span := func(v *time.Duration, standard time.Duration) {
		if *v <= 0 {
			*v = standard
		}
	}
	number(&o.Addresses, 65536)
	number(&o.Bytes, 12<<20)
	number(&o.Connections, 32768)
	number(&o.KeptBytes, 6<<20)
	number(&o.Streams, 4096)
	number(&o.StreamBytes, 4<<20)
	span(&o.StreamAge, 30*time.Second)
	span(&o.Grace, 2*time.Minute)
	span(&o.MaxTTL, 24*time.Hour)
	span(&o.Lookup, time.Hour)
	if o.FirstUser == 0 {
		o.FirstUser = 1000
	}
	return o
}
