package sdk

import (
	"context"
	"io"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// The parts of looking after a store. Each is optional, and named as a feature of the same name in lower case.

// Exporter writes what is stored into a file.
type Exporter interface {
	Store
	// Export writes the whole file to w. An error that wraps [ErrQuery] blames the request.
	Export(ctx context.Context, r *wire.ExportRequest, w io.Writer) error
}

// Importer takes a file of another program or version.
type Importer interface {
	Store
	// Import reads size bytes called name from r, and tells progress. The same file again changes nothing. An error that
	// wraps [ErrQuery] blames the file.
	Import(ctx context.Context, name string, size uint64, r io.Reader, progress func(*wire.ImportProgress) error) error
}

// Checker looks for damage.
type Checker interface {
	Store
	// Check calls page for what it finds; no finding means that the store is sound.
	Check(ctx context.Context, page func(*wire.CheckPage) error) error
}

// Compacter gives back space.
type Compacter interface {
	Store
	// Compact works in steps that hold up no Apply for long.
	Compact(ctx context.Context, progress func(*wire.CompactProgress) error) error
}

// Witness proves what it holds.
type Witness interface {
	Store
	// Evidence calls page with batches in order: those that the request is about, which has no epoch without a host.
	Evidence(ctx context.Context, r *wire.EvidenceRequest, page func(*wire.EvidencePage) error) error
}

// Verdicts judges files.
type Verdicts interface {
	Plugin
	// Judge answers about one hash. It is called from several goroutines.
	Judge(ctx context.Context, r *wire.JudgeRequest) (*wire.JudgeResponse, error)
}

// Locator tells where addresses lie.
type Locator interface {
	Plugin
	// Locate answers for each of ips (4 or 16 bytes each), in order; an unknown one is an empty Location. It is called
	// from several goroutines.
	Locate(ctx context.Context, ips [][]byte) ([]*wire.Location, error)
}

// UI is an interface for people that the host starts, such as a web page. It asks the host through
// Settings.HostSocket.
type UI interface {
	Plugin
	// Serve runs until ctx is done, which is when the host drains the plugin.
	Serve(ctx context.Context) error
}
