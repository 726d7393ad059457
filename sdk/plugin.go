package sdk

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Plugin is the trunk of every plugin. A plugin is more by what else it implements: [Sink], [Store], [Verdicts],
// [Locator], [UI].
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
	Name         string   // lower-case letters, digits and hyphens
	Version      string   // the plugin's own, for people
	Features     []string // beside those that follow from what the plugin implements; usually nil
	Needs        Needs
	ConfigSchema string // JSON Schema of Settings.Config, see [Schema]
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
	Config     []byte // JSON object, see [Decode]; may hold secrets
	Directory  string // the plugin's own, the only place it may write
	ReadOnly   bool   // answer queries only; create and change nothing
	HostSocket string // for [Host]; "" when there is none
}

// Epoch is the random name of one run of the host.
type Epoch [16]byte

// String is the epoch in hexadecimal.
func (e Epoch) String() string { return fmt.Sprintf("%x", e[:]) }

// MarshalText is [Epoch.String], so that JSON has an epoch as text.
func (e Epoch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what [Epoch.String] wrote.
func (e *Epoch) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(e)) {
		return fmt.Errorf("epoch: %d characters, want %d", len(text), hex.EncodedLen(len(e)))
	}
	if _, err := hex.Decode(e[:], text); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	return nil
}

// Watermark says that every record of Epoch up to Sequence is safe.
type Watermark struct {
	Epoch    Epoch  `json:"epoch"`
	Sequence uint64 `json:"sequence"`
}

// Batch is a range of records as the host journaled it.
type Batch struct {
	*wire.Batch
	Epoch Epoch
	Raw   []byte // the encoded wire.Batch
}

// Retry answers Apply: nothing was stored, for a reason that passes.
type Retry struct {
	After      time.Duration // 0: a second
	Downstream bool          // the cause lies behind the plugin: a server, a disk
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
