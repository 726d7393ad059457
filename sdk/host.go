package sdk

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ErrNoHost is the error of [Host] for a plugin that was given no socket.
var ErrNoHost = errors.New("this plugin was given no host socket")

// HostClient asks the host: queries, the live feed, status, locations, files by their hash. What a plugin may ask depends
// on what the configuration grants it; the rest is answered PermissionDenied. Calls need contexts with deadlines, streams
// contexts that are cancelled. It may be used from any goroutine.
type HostClient struct {
	wire.HostClient
	Keeper  wire.KeeperClient
	Locator wire.LocatorClient

	conn *grpc.ClientConn
}

// Host connects to [Settings].HostSocket, lazily: a host that is not there shows with the first call. The caller closes
// the client.
func Host(socket string) (*HostClient, error) {
	if socket == "" {
		return nil, ErrNoHost
	}
	// No TLS: who asks is known to the kernel, and the socket is this plugin's alone.
	conn, err := grpc.NewClient("passthrough:///picosnitch",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*wire.MaxPageBytes)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the host: %w", err)
	}
	return &HostClient{HostClient: wire.NewHostClient(conn), Keeper: wire.NewKeeperClient(conn),
		Locator: wire.NewLocatorClient(conn), conn: conn}, nil
}

// Close ends the connection and every call on it.
func (h *HostClient) Close() error {
	if err := h.conn.Close(); err != nil {
		return fmt.Errorf("close the connection to the host: %w", err)
	}
	return nil
}
