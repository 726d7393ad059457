package sdk

import (
	"github.com/hashicorp/go-plugin"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Handshake is what host and plugin compare first. It keeps a person from starting a plugin by hand; it is no protection.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  wire.Version,
		MagicCookieKey:   "PICOSNITCH_PLUGIN",
		MagicCookieValue: "2d0c5b8a-picosnitch-wire",
	}
}

// PluginName is the only entry of go-plugin's plugin map: one connection carries every service of a plugin.
const PluginName = "picosnitch"
