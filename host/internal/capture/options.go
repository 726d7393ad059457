package capture

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options is how a [Kernel] is set up. Zero values that are not allowed give an error from Open.
type Options struct {
	// Instance names this host's pins; two hosts with different names run side by side.
	Instance string
	// Interval is how often the sums are drained: the write window.
	Interval time.Duration
	// RingPages is the size of the exec ring in pages, a power of two; map sizes follow it.
	RingPages int
	// Position is what the journal says was drained last; zero if nothing was in this boot.
	Position Position
	// Secret keeps kernel addresses from leaving the host: superblocks are named by a hash keyed with it.
	Secret []byte
	// Log gets what a person should know about attaching and pins.
	Log *slog.Logger
	// Lacks names tracepoints, functions and kinds of programs ("fexit") that are taken for absent: a kernel that has them can
	// stand for one that does not. The tag of the programs depends on it.
	Lacks []string
}

// Position is how far windows have come. It is journaled together with the window's records, so that a window is counted
// once, whenever the host dies.
type Position struct {
	BootID     string          `json:"boot_id"`
	Generation uint64          `json:"generation"`
	Losses     map[string]Loss `json:"losses,omitempty"` // totals told so far, by cause
}

// Shares: no process and no user gets more of a kernel map than this part (decision 13).
const share = 8

func (o *Options) check() error {
	switch {
	case o.Instance == "":
		return errors.New("instance name is empty")
	case o.Interval < time.Second:
		return fmt.Errorf("drain interval %v is shorter than a second", o.Interval)
	case o.RingPages < 1 || o.RingPages&(o.RingPages-1) != 0:
		return fmt.Errorf("ring of %d pages: not a power of two", o.RingPages)
	case len(o.Secret) < 16:
		return errors.New("secret is shorter than 16 bytes")
	case o.Log == nil:
		return errors.New("no logger")
	}
	return nil
}

// sizes of the kernel maps. The default of 256 pages gives a ring of 1 MiB, 131,072 flows and 262,144
// processes: ten thousand programs that one user starts within a window, each by fork and exec, are within his share.
type sizes struct {
	ring, flows, owners, processes uint32
}

func (o *Options) sizes() sizes {
	pages := uint32(o.RingPages)
	return sizes{
		ring:      pages * 4096,
		flows:     max(pages*512, 4096),
		owners:    max(pages*128, 1024),
		processes: max(pages*1024, 4096),
	}
}
