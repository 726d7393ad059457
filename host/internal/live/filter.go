package live

import (
	"encoding/binary"
	"io/fs"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// filter makes of a window what may be shown of it: a recorder of its own, with the options of the one that records, that
// writes nothing and remembers next to nothing. So there is one place that decides what leaves the host.
type filter struct {
	lineage func(*capture.Flow) identity.Lineage

	mu       sync.Mutex // a Recorder takes one window at a time
	recorder *record.Recorder
}

func newFilter(o Options) (*filter, error) {
	options := o.Record
	options.Known, options.EveryExe = 1, false
	recorder, err := record.New(options, nowhere{}, nowhere{}, time.Now)
	if err != nil {
		return nil, err
	}
	return &filter{lineage: o.Lineage, recorder: recorder}, nil
}

// flows are the rows of a window, those that are one to a watcher added up.
func (f *filter) flows(w *capture.Window) map[flowKey]*wire.Flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[flowKey]*wire.Flow{}
	for _, r := range f.recorder.Window(w, f.lineage) {
		if flow := r.GetFlow(); flow != nil {
			gather(out, flow)
		}
	}
	return out
}

// gather adds a flow to those of its key.
func gather(flows map[flowKey]*wire.Flow, flow *wire.Flow) {
	key := keyOf(flow)
	known := flows[key]
	if known == nil {
		flows[key] = flow
		return
	}
	both := proto.CloneOf(known) // a row is shared with the journal
	both.Sent += flow.GetSent()
	both.Received += flow.GetReceived()
	both.Sends += flow.GetSends()
	both.Receives += flow.GetReceives()
	both.Connects += flow.GetConnects()
	both.Accepts += flow.GetAccepts()
	both.Failures += flow.GetFailures()
	both.Listens += flow.GetListens()
	both.Result = flow.GetResult()
	flows[key] = both
}

// flowKey is what makes two rows the same flow in the eyes of a watcher: process, protocol and both ends. What a flow
// learns while it lives (result, direction, name of the peer) is not in it, so that it stays one.
type flowKey string

func keyOf(f *wire.Flow) flowKey {
	id := f.GetProcess().GetId()
	key := make([]byte, 0, 96)
	for _, n := range []uint64{
		uint64(id.GetTgid()), uint64(id.GetStartBoot()), uint64(id.GetExecId()), uint64(f.GetProcess().GetRuid()),
		uint64(f.GetLayer()), uint64(f.GetFamily()), uint64(f.GetProtocol()), uint64(f.GetNetns()),
	} {
		key = binary.AppendUvarint(key, n)
	}
	for _, e := range []*wire.Endpoint{f.GetLocal(), f.GetRemote()} {
		key = binary.AppendVarint(key, int64(e.GetPort()))
		key = append(append(key, byte(len(e.GetIp()))), e.GetIp()...)
	}
	return flowKey(append(key, f.GetProcess().GetKernel()...))
}

// nowhere is a directory in which nothing is and nothing stays.
type nowhere struct{}

// ReadFile finds nothing.
func (nowhere) ReadFile(string, int64) ([]byte, error) { return nil, fs.ErrNotExist }

// WriteFile keeps nothing.
func (nowhere) WriteFile(string, []byte, fs.FileMode) error { return nil }

// Append keeps nothing.
func (nowhere) Append(string, []byte) error { return nil }
