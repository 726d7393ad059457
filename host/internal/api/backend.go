package api

import (
	"context"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Backend is what the daemon can tell. Its methods are called from many goroutines at once; answers belong to the caller.
// What else it can do it says by implementing [Watcher], [Controller], [Forwarder] and [Opener]; a call for which it does
// not is answered with Unimplemented, in words.
type Backend interface {
	// Status tells how the daemon does. The names of counters are the host's own words, since everybody may see them.
	Status() *wire.StatusResponse
	Plugins() []*wire.PluginStatus
	// Query hands page the parts of the answer in order; an error of page ends it and is returned. A gRPC status of its
	// error reaches the client.
	Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error
}

// Watcher has a live feed.
type Watcher interface {
	// Watch hands page what happens until ctx ends or page returns an error, which is returned. A slow page delays nobody.
	Watch(ctx context.Context, r *wire.WatchRequest, page func(*wire.WatchPage) error) error
}

// Controller acts on plugins.
type Controller interface {
	// Control does what is asked and says in words what it did. [ErrQuestion] blames the request.
	Control(ctx context.Context, r *wire.ControlRequest) (string, error)
	PluginLog(ctx context.Context, plugin string) (*wire.PluginLogResponse, error)
}

// Forwarder lets calls through to plugins.
type Forwarder interface {
	// Use calls a plugin of a kind ("store", "locator"), the one called name or, with "", the usual one. A plugin that
	// runs on demand is started, and runs on at least until call returns.
	Use(ctx context.Context, kind, name string, call func(context.Context, *sdk.Client) error) error
}

// Opener reads executables.
type Opener interface {
	// OpenExecutable hands piece the file with this SHA-256 in order. An error, also at the end, means that what came
	// before is not that file.
	OpenExecutable(ctx context.Context, sha256 []byte, piece func([]byte) error) error
}
