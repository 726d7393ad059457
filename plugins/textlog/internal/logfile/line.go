package logfile

import (
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// oldFields are the columns of picosnitch 1.0.3, the first ones of a flow's row.
const oldFields = 17

// appendText appends the flows and executions of a batch, a line of 17 fields each.
func appendText(lines []byte, b *wire.Batch) []byte {
	for _, row := range sdk.Rows(&wire.Batch{HostId: b.GetHostId(), Epoch: b.GetEpoch(), Records: connections(b)}) {
		for i, v := range row[:oldFields] {
			if i > 0 {
				lines = append(lines, ',')
			}
			lines = append(lines, field(v)...)
		}
		lines = append(lines, '\n')
	}
	return lines
}

// connections are the records of a batch that have a line, as flows. Bytes counted at another layer than the socket would
// stand there twice, and 17 fields have no place to say so; an execution is a line without ports, addresses and bytes, as
// in `connections` (docs/schema.md).
func connections(b *wire.Batch) []*wire.Record {
	var out []*wire.Record
	for _, r := range b.GetRecords() {
		switch k := r.GetKind().(type) {
		case *wire.Record_Flow:
			if l := k.Flow.GetLayer(); l == wire.Layer_LAYER_SOCKET || l == wire.Layer_LAYER_UNKNOWN {
				out = append(out, r)
			}
		case *wire.Record_Exec:
			none := &wire.Endpoint{Port: -1}
			out = append(out, &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{
				Window: k.Exec.GetWindow(), Process: k.Exec.GetProcess(), Parent: k.Exec.GetParent(), Local: none, Remote: none,
			}}})
		}
	}
	return out
}

// field is a value without a comma. Text is escaped, so that it has no line break either; a comma gets the same escape,
// which sdk.Unescape reverses.
func field(v sdk.Value) string {
	if v.Type() == sdk.Integer {
		return v.String()
	}
	return strings.ReplaceAll(v.Text(), ",", `\x2c`)
}

// appendJSON appends every record of a batch as an object.
func appendJSON(lines []byte, b *wire.Batch) []byte {
	for _, line := range sdk.Lines(b) {
		lines = append(append(lines, line...), '\n')
	}
	return lines
}
