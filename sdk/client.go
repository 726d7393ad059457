package sdk

import (
	"google.golang.org/grpc"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Client is the host's end of a running plugin; package dial makes one. Calls of a service that the plugin's Describe does
// not name among its kinds answer codes.Unimplemented. Every call needs a context with a deadline: none has one of its own.
type Client struct {
	Conn     *grpc.ClientConn
	Plugin   wire.PluginClient
	Sink     wire.SinkClient
	Store    wire.StoreClient
	Keeper   wire.KeeperClient
	Verdicts wire.VerdictsClient
	Locator  wire.LocatorClient
}

// NewClient calls over a connection, which whoever made it closes.
func NewClient(conn *grpc.ClientConn) *Client {
	return &Client{
		Conn:     conn,
		Plugin:   wire.NewPluginClient(conn),
		Sink:     wire.NewSinkClient(conn),
		Store:    wire.NewStoreClient(conn),
		Keeper:   wire.NewKeeperClient(conn),
		Verdicts: wire.NewVerdictsClient(conn),
		Locator:  wire.NewLocatorClient(conn),
	}
}
