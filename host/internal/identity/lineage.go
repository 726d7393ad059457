package identity

import wire "github.com/picosnitch/picosnitch/sdk/proto"

// Lineage is who did it, as far as is known: fields are nil where nothing is. The messages are shared and read-only.
type Lineage struct {
	Process     *wire.Process
	Parent      *wire.Process
	Grandparent *wire.Process
}
