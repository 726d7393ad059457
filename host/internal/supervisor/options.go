package supervisor

import (
	"context"
	"log/slog"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
)

// Feed is a sink's place in the journal; [journal.Cursor] is one.
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
}

// Spec is one plugin as the configuration wants it.
type Spec struct {
	Name      string            // one word: it becomes a directory name
	Path      string            // absolute
	SHA256    string            // pinned, hexadecimal; "": any
	Disabled  bool              // only shown
	Owner     process.Owner     // of the configuration: files of the plugin are theirs
	AsOwner   bool              // run as Owner, who is not root, instead of a uid of its own
	Network   []string          // nil: none; "host": all; else host:port, which cannot be enforced yet and is said to be
	Paths     map[string]string // absolute path -> "ro" or "rw"
	MemoryMB  int               // 0: 256
	DiskMB    int               // not enforced yet
	Config    []byte            // JSON object; may hold secrets
	Directory string            // the plugin's own, made if missing
	Kinds     []string          // expected; shown until the plugin says itself
}

// defaultMemoryMB is the memory of a plugin whose Spec says nothing.
const defaultMemoryMB = 256

func (s Spec) memory() int {
	if s.MemoryMB > 0 {
		return s.MemoryMB
	}
	return defaultMemoryMB
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
	StateStopped     = "stopped"
)
