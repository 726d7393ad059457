package supervisor

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
)

// Feed is a sink's place in the journal; [journal.Cursor] is one. A Feed may have more methods, which delivery makes use of
// if they are there: those of [Backlog]; SetAside, which keeps records that the sink refuses (without it they are gone);
// Withdrawn, which says that records were given up after Next returned them; and Suspects, which remembers longer than an
// incarnation lives over which records the sink died.
type Feed interface {
	// Next returns the first batch that is not acknowledged, and waits for one.
	Next(ctx context.Context) (journal.Batch, error)
	Ack(sdk.Watermark) error
	// Seek moves to where the sink says that it is; an empty list leaves the place as it is.
	Seek([]sdk.Watermark) journal.Sought
	// Lag is the number of records not acknowledged.
	Lag() uint64
}

var _ Feed = (*journal.Cursor)(nil)

// Backlog is what a Feed may tell besides: what waits, what was set aside to be retried, and what the sink will never get.
type Backlog interface {
	Stats() (journal.SinkStats, error)
}

// Options are what all plugins share.
type Options struct {
	RunDir  string // sockets lie in plugins/ below it
	HostID  [16]byte
	BootID  [16]byte
	Epoch   sdk.Epoch
	UIDs    UIDs                            // for the plugins' own users
	Feed    func(sink string) (Feed, error) // called once per sink that has been configured
	Report  func(Event)                     // may be nil
	Log     *slog.Logger                    // what plugins write; nil: nowhere
	Jitter  func() float64                  // in [0, 1); nil: random
	Start   time.Duration                   // for a plugin's handshake; 0: 10 s
	HostBin string                          // path of the host binary; "": this program's

	// HostService answers one plugin on its own socket, from before it is configured until stop is called, which is after
	// the plugin ended. stop returns when nothing is served any more; l is closed by then or soon after, by the supervisor.
	// nil: plugins cannot ask the host.
	HostService func(plugin string, l net.Listener) (stop func())
	// Gone is told when a plugin that Reconfigure did away with has ended; by then there may be another one of its name. It
	// is called from any goroutine, Reconfigure's included. May be nil.
	Gone func(plugin string)
	// Room is for how long the journal has room for what the sink does not take; 0: not known. May be nil.
	Room func(sink string) time.Duration
}

// Event is something about a plugin that a person may want to know. It is reported once.
type Event struct {
	Time   time.Time
	Plugin string
	State  string   // the state entered, or the one it is in
	Error  string   // what went wrong, escaped; "" when nothing did
	Tail   []string // after a crash: the plugin's last words, escaped

	// What the sink and the journal do not have in common: each is owed a Gap. Only with the State running.
	Sought journal.Sought
	// Records of Epoch that the sink refused. It was given a Gap in the place of each: it is owed no more, and a further
	// Gap in the journal could be refused in turn, without end.
	Rejected []uint64
	Epoch    sdk.Epoch
}

// States of a plugin, as wire.PluginStatus names them.
const (
	StateDisabled    = "disabled"
	StateBlocked     = "blocked"
	StateStarting    = "starting"
	StateConfiguring = "configuring"
	StateRunning     = "running"
	StateDegraded    = "degraded"
	StateBackoff     = "backoff"
	StateCrashLoop   = "crash_loop"
	StateIdle        = "idle"
	StateDraining    = "draining"
	StateStopped     = "stopped"
)
