// Package dial answers one question: how does a host reach a plugin? It is the host's half of the handshake, in
// go-plugin's terms; a plugin needs nothing of it.
package dial

import (
	"context"
	"errors"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Handshake is what host and plugin compare first. It keeps a person from starting a plugin by hand; it is no protection.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion: wire.Version, MagicCookieKey: sdk.CookieKey, MagicCookieValue: sdk.CookieValue,
	}
}

// PluginName is the only entry of go-plugin's plugin map: one connection carries every service of a plugin.
const PluginName = "picosnitch"

// Plugin is the host's entry of go-plugin's plugin map, under [PluginName]. Dispensing it gives a *[sdk.Client]:
//
//	Plugins: map[string]plugin.Plugin{dial.PluginName: dial.Plugin()}
//	…
//	raw, err := protocol.Dispense(dial.PluginName)
//	client := raw.(*sdk.Client)
func Plugin() plugin.Plugin { return end{} }

// end is the host's end in go-plugin's eyes. The broker stays unused, so that a plugin may be written in a language that
// has none.
type end struct{ plugin.NetRPCUnsupportedPlugin }

// GRPCServer is not for a host.
func (end) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("register plugin services: this is the host's end")
}

// GRPCClient returns a *sdk.Client.
func (end) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return sdk.NewClient(conn), nil
}
