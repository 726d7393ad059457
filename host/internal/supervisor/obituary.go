package supervisor

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// flight remembers the batch that a sink was given and did not answer for: the first suspect when it dies.
type flight struct{ batch atomic.Pointer[[]byte] }

// trackedSink is a sink whose batches under way are remembered.
type trackedSink struct {
	wire.SinkClient
	flight *flight
}

// Apply hands a batch over. One under which the connection broke stays remembered.
func (t trackedSink) Apply(ctx context.Context, r *wire.ApplyRequest, o ...grpc.CallOption) (*wire.ApplyResponse, error) {
	batch := r.GetBatch()
	t.flight.batch.Store(&batch)
	response, err := t.SinkClient.Apply(ctx, r, o...)
	if err == nil || !instance.Gone(err) {
		t.flight.batch.Store(nil)
	}
	return response, err
}

// obituary tells how the incarnation ended; it has.
func (i *incarnation) obituary(begun time.Time, reason error) *wire.Incarnation {
	exit := i.Exit()
	o := &wire.Incarnation{
		Started: begun.UnixNano(), Ended: time.Now().UnixNano(), Pid: uint32(i.PID()), ExitCode: int32(exit.Code),
		OutOfMemory: exit.OutOfMemory, PeakMemory: exit.Peak, Tail: i.Tail(maxTail), Reason: "stopped",
	}
	if exit.Signal != 0 {
		o.Signal = exit.Signal.String()
	}
	if reason != nil {
		o.Reason = bounded(reason.Error(), 1024)
	}
	if raw := i.flight.batch.Load(); raw != nil {
		batch := new(wire.Batch)
		if proto.Unmarshal(*raw, batch) == nil {
			o.Epoch, o.Batch = batch.GetEpoch(), batch.GetFirst()
		}
	}
	return o
}
