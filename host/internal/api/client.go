package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Client asks the daemon of a run directory. Give its calls contexts with deadlines.
type Client struct {
	conn *grpc.ClientConn
	host wire.HostClient
}

// Dial prepares a client, and looks whether somebody listens: if not, the error wraps [ErrNotRunning]. The caller closes
// the client.
func Dial(runDir string) (*Client, error) {
	path, err := socketPath(runDir)
	if err != nil {
		return nil, err
	}
	probe, err := net.Dial("unix", path) // does not wait
	if errno := unix.Errno(0); errors.As(err, &errno) {
		err = errno // without the words of package net
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w: connect to %s: %w", ErrNotRunning, path, err)
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	_ = probe.Close()
	conn, err := grpc.NewClient("passthrough:///picosnitch",
		grpc.WithTransportCredentials(kernelCredentials{}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*wire.MaxPageBytes)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the daemon: %w", err)
	}
	return &Client{conn: conn, host: wire.NewHostClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Status tells how the daemon does.
func (c *Client) Status(ctx context.Context) (*wire.StatusResponse, error) {
	answer, err := c.host.Status(ctx, &wire.StatusRequest{})
	return answer, clientError("status", err)
}

// Plugins lists the plugins. Without the right to see them the error wraps [ErrDenied].
func (c *Client) Plugins(ctx context.Context) ([]*wire.PluginStatus, error) {
	answer, err := c.host.Plugins(ctx, &wire.PluginsRequest{})
	return answer.GetPlugins(), clientError("plugins", err)
}

// Query asks a store, "" being the usual one, and hands page the parts of the answer in order; its error ends the query and
// is returned. Errors of the question wrap [ErrQuestion], those of rights [ErrDenied].
func (c *Client) Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when page has had enough
	stream, err := c.host.Query(ctx, &wire.StoreQuery{Store: store, Query: q})
	if err != nil {
		return clientError("query", err)
	}
	return each("query", stream.Recv, page)
}

// Watch hands page what happens, until ctx ends or page returns an error, which is returned; nil when the daemon ends the
// feed in good order. Errors of rights wrap [ErrDenied].
func (c *Client) Watch(ctx context.Context, r *wire.WatchRequest, page func(*wire.WatchPage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.host.Watch(ctx, r)
	if err != nil {
		return clientError("watch", err)
	}
	return each("watch", stream.Recv, page)
}

// Control acts on a plugin and says in words what was done.
func (c *Client) Control(ctx context.Context, plugin string, action wire.ControlRequest_Action) (string, error) {
	answer, err := c.host.Control(ctx, &wire.ControlRequest{Plugin: plugin, Action: action})
	return printable(answer.GetText()), clientError("control", err)
}

// PluginLog gives what a plugin said last and how its last incarnations ended.
func (c *Client) PluginLog(ctx context.Context, plugin string) (*wire.PluginLogResponse, error) {
	answer, err := c.host.PluginLog(ctx, &wire.PluginLogRequest{Plugin: plugin})
	return answer, clientError("plugin log", err)
}

// Keeper looks after the stores of the daemon.
func (c *Client) Keeper() *Keeper { return NewKeeper(wire.NewKeeperClient(c.conn)) }

// each hands on the messages of a call until there are no more; the error of give is its own.
func each[T any](call string, next func() (*T, error), give func(*T) error) error {
	for {
		message, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return clientError(call, err)
		}
		if err := give(message); err != nil {
			return err
		}
	}
}
