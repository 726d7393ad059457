package sdk

import (
	"context"
	"fmt"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Plugin is the trunk of every plugin. A plugin is more by what else it implements: [Sink], [Store].
//
// The host calls Describe first, then Configure, then the rest. Errors that Configure returns wrapped in [ErrConfig] are
// permanent: the host does not try again until the configuration changes.
type Plugin interface {
	// Describe says what the plugin is and needs. It opens nothing.
	Describe() Description
	// Configure opens what the plugin works with. It is called once, before any other method but Describe and Health.
	Configure(ctx context.Context, s Settings) error
	// Health returns nil when all is well, or what is wrong, in words for a person.
	Health(ctx context.Context) error
	// Drain makes safe what was taken and releases files. Nothing is called after it, and it is not called at all if
	// Configure was not, or returned an error.
	Drain(ctx context.Context) error
}

// Sink takes batches, one at a time and in order.
type Sink interface {
	Plugin
	// Watermarks tells what the sink safely holds, one entry per epoch, newest last. A sink without memory returns nil
	// and gets batches at least once.
	Watermarks(ctx context.Context) ([]Watermark, error)
	// Apply stores a batch. nil: all of it is safe, or was before. *Retry, *Rejection and *Rewind are the other
	// answers; any other error counts as a Retry after a second. The batch is read-only and valid until Apply returns;
	// it keeps every limit of docs/wire.md. A batch that comes again right after it was answered with a *Rewind must be
	// taken: the host has nothing older. Records of a kind that the sink does not know are skipped.
	Apply(ctx context.Context, b *Batch) error
}

// Store is a Sink that also answers queries.
type Store interface {
	Sink
	// Query calls page, one at a time, for each part of the answer, each at most wire.MaxPageBytes encoded. Query is
	// called from many goroutines. An error of page ends it and is returned. An error that wraps [ErrQuery] blames
	// the question.
	Query(ctx context.Context, q *wire.Query, page func(*wire.QueryPage) error) error
}

// Description is what a plugin says of itself.
type Description struct {
	Name         string
	Version      string
	Features     []string
	Needs        Needs
	ConfigSchema string // JSON Schema of Settings.Config
}

// Needs is what a plugin asks for; the configuration grants it and the host enforces it.
type Needs struct {
	Network  []string // host:port
	Paths    []string
	MemoryMB int
	DiskMB   int
}

// Settings is what the host tells a plugin at start.
type Settings struct {
	HostID     [16]byte
	BootID     [16]byte
	Epoch      Epoch  // the host's current one
	Config     []byte // JSON object
	Directory  string // the plugin's own, the only place it may write
	ReadOnly   bool   // answer queries only; create and change nothing
	HostSocket string // "" when there is none
}

// Epoch is the random name of one run of the host.
type Epoch [16]byte

// String is the epoch in hexadecimal.
func (e Epoch) String() string { return fmt.Sprintf("%x", e[:]) }

// Watermark says that every record of Epoch up to Sequence is safe.
type Watermark struct {
	Epoch    Epoch
	Sequence uint64
}

// Batch is a range of records as the host journaled it.
type Batch struct {
	*wire.Batch
	Epoch Epoch
	Raw   []byte // the encoded wire.Batch
}

// Retry answers Apply: nothing was stored, for a reason that passes.
type Retry struct {
	After      time.Duration
	Downstream bool // the cause lies behind the plugin: a server, a disk
	Err        error
}

func (r *Retry) Error() string { return fmt.Sprintf("retry after %v: %v", r.After, r.Err) }

// Unwrap gives the cause.
func (r *Retry) Unwrap() error { return r.Err }

// Rejection answers Apply: these records can never be stored; nothing of the batch was.
type Rejection struct {
	Sequences []uint64
	Err       error
}

func (r *Rejection) Error() string {
	return fmt.Sprintf("reject %d records: %v", len(r.Sequences), r.Err)
}

// Unwrap gives the cause.
func (r *Rejection) Unwrap() error { return r.Err }

// Rewind answers Apply: records between Have and this batch are missing.
type Rewind struct{ Have Watermark }

func (r *Rewind) Error() string {
	return fmt.Sprintf("rewind to %v/%d", r.Have.Epoch, r.Have.Sequence)
}
