package record

import (
	"net/netip"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Options say what is recorded. The zero value is the most private one: no remote addresses, ports or command lines.
type Options struct {
	Addresses bool // `Log addresses`: false empties the remote address, its candidates and its names, never the local one
	Commands  bool // `Log commands`: false empties the command lines of process, parent and grandparent
	Ports     bool // `Log ports`: false keeps only -1 (has no port) and 0, as 1.0.3 did
	EveryExe  bool // `Every exe (not just conns)`: Exec gives records

	Ignore     Ignore   // `Log ignore`
	Unredacted []string // redaction rules that are off, by name; see [RedactionRules]

	// Domains gives the names that are known for a flow's remote address, or is nil. It is called once for each flow.
	Domains func(*capture.Flow) []*wire.Domain

	// Explain finds out whose file stands at a path of the host, and whether it is still what its package brought; nil: nobody
	// does. sha256 is what was executed. It must not wait: the words come later, escaped, or "" for none; nil says that
	// nobody has time. It must not call the Recorder.
	Explain func(path string, sha256 []byte) <-chan string

	// Ancestors names who a process descends from, for notices; nil: nobody does. It must not call the Recorder.
	Ancestors func(*wire.ProcessId) []*wire.Ancestor

	Rows     int           // at most in a window; 0 means 32768. No user and no process gets more than 1/8
	Known    int           // entries remembered beyond those of 1.0.3; 0 means 40000. No user gets more than 1/8
	Learn    int           // windows of the very first start that are summed up in one notice; 0 means 1
	Interval time.Duration // between two writes while no log line waits; 0 means 30 s
}

// Ignore says which flows make no row. Their bytes are counted, and their programs are noticed as any other.
type Ignore struct {
	Hashes  [][32]byte     // SHA-256 of the process's executable (not of its parent's)
	Domains []string       // reversed ("org.example"), each with all its subdomains; compared without case
	Subnets []netip.Prefix // of the remote address only
	Ports   []uint16       // local or remote
}

// Counters are totals since New.
type Counters struct {
	Windows, Flows, Rows uint64 // flows are what capture gave, rows what was recorded
	Sent, Received       uint64 // bytes recorded
	IgnoredFlows         uint64 // by `Log ignore`
	IgnoredSent          uint64 // bytes
	IgnoredReceived      uint64 // bytes
	PortZeroFlows        uint64 // UDP connects to port 0 without a byte: the C library sorting addresses
	FoldedRows           uint64 // rows that went into a row of their process or user, beyond its share
	Notices, Gaps        uint64
	ExactLosses          uint64 // events without a peer of their own; their bytes are in the rows
	Execs                uint64
	Known                int    // entries learned and kept
	KnownForgotten       uint64 // entries forgotten for newer ones of the same user
	KnownFolded          uint64 // new programs and hashes that there was no room for: counted, not kept
	ErrorsSuppressed     uint64 // error.log lines that were repetitions or too many
	ExeLinesLost         uint64 // exe.log and error.log lines dropped because
	ErrorLinesLost       uint64 // the user's directory could not be written for long
	NoticesDropped       uint64
	FlushFailures, Edits uint64 // edits of record.json by another hand
}

func (o Options) withDefaults() Options {
	if o.Rows <= 0 {
		o.Rows = 32768
	}
	if o.Known <= 0 {
		o.Known = 40000
	}
	if o.Learn <= 0 {
		o.Learn = 1
	}
	if o.Interval <= 0 {
		o.Interval = 30 * time.Second
	}
	return o
}
