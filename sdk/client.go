package sdk

import (
	"context"
	"errors"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Client is the host's end of a running plugin. Calls of a service that the plugin's Describe does not name among its
// kinds answer codes.Unimplemented. Every call needs a context with a deadline: none has one of its own.
type Client struct {
	Conn     *grpc.ClientConn // owned by go-plugin's client, which closes it
	Plugin   wire.PluginClient
	Sink     wire.SinkClient
	Store    wire.StoreClient
	Keeper   wire.KeeperClient
	Verdicts wire.VerdictsClient
	Locator  wire.LocatorClient
}

// ClientPlugin is the host's entry of go-plugin's plugin map, under [PluginName]. Dispensing it gives a *[Client]:
//
//	Plugins: map[string]plugin.Plugin{sdk.PluginName: sdk.ClientPlugin()}
//	…
//	raw, err := protocol.Dispense(sdk.PluginName)
//	client := raw.(*sdk.Client)
func ClientPlugin() plugin.Plugin { return grpcPlugin{} }

// grpcPlugin is the host's end in go-plugin's eyes. The broker stays unused, so that a plugin may be written in a language
// that has none.
type grpcPlugin struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer is not for a host.
func (grpcPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("register plugin services: this is the host's end")
}

// GRPCClient returns a *Client.
func (grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &Client{
		Conn:     conn,
		Plugin:   wire.NewPluginClient(conn),
		Sink:     wire.NewSinkClient(conn),
		Store:    wire.NewStoreClient(conn),
		Keeper:   wire.NewKeeperClient(conn),
		Verdicts: wire.NewVerdictsClient(conn),
		Locator:  wire.NewLocatorClient(conn),
	}, nil
}
