package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// defaultRetry is the delay after an error of Apply that names none.
const defaultRetry = time.Second

// sinkServer is the sink's gRPC service.
type sinkServer struct {
	wire.UnimplementedSinkServer
	trunk *server
	sink  Sink
	turn  chan struct{} // holds one token: who has it may call Apply
}

func newSinkServer(trunk *server, sink Sink) *sinkServer {
	s := &sinkServer{trunk: trunk, sink: sink, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

func (s *sinkServer) Apply(ctx context.Context, r *wire.ApplyRequest) (*wire.ApplyResponse, error) {
	ctx, leave, err := s.trunk.life.enter(ctx, "apply", false)
	if err != nil {
		return nil, err
	}
	defer leave()
	if s.trunk.settings.ReadOnly {
		return nil, status.Error(codes.FailedPrecondition, "apply: the plugin was configured read-only")
	}
	batch, err := decodeBatch(r)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "apply: "+clip(err.Error()))
	}
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	began := time.Now()
	answer, err := outcome(batch, s.sink.Apply(ctx, batch))
	s.trunk.count.applied(batch, answer, time.Since(began))
	return answer, err
}

// outcome is the answer that an error of Apply stands for.
func outcome(b *Batch, err error) (*wire.ApplyResponse, error) {
	var (
		retry     *Retry
		rejection *Rejection
		rewind    *Rewind
	)
	switch {
	case err == nil:
		mark := Watermark{Epoch: b.Epoch, Sequence: b.Last}
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Acknowledged{
			Acknowledged: &wire.Acknowledged{Watermark: mark.encode()}}}, nil
	case errors.As(err, &rewind):
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rewind{
			Rewind: &wire.Rewind{Watermark: rewind.Have.encode()}}}, nil
	case errors.As(err, &rejection):
		return rejected(b, rejection)
	case errors.As(err, &retry):
		return retryAfter(retry), nil
	}
	return retryAfter(&Retry{After: defaultRetry, Err: err}), nil
}

func retryAfter(r *Retry) *wire.ApplyResponse {
	after := r.After
	if after <= 0 {
		after = defaultRetry
	}
	return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_RetryAfter{RetryAfter: &wire.RetryAfter{
		Delay: int64(after), Reason: reason(r.Err), Downstream: r.Downstream}}}
}

// rejected answers with record numbers of the batch; a Rejection that names none rejects them all.
func rejected(b *Batch, r *Rejection) (*wire.ApplyResponse, error) {
	sequences := r.Sequences
	for _, sequence := range sequences {
		if sequence < b.First || sequence > b.Last {
			return nil, status.Error(codes.Internal, fmt.Sprintf(
				"apply: the plugin rejects record %d, which is not in the batch %d..%d", sequence, b.First, b.Last))
		}
	}
	if len(sequences) == 0 {
		for sequence := b.First; sequence <= b.Last; sequence++ {
			sequences = append(sequences, sequence)
		}
	}
	return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rejected{
		Rejected: &wire.Rejected{Sequences: sequences, Reason: reason(r.Err)}}}, nil
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return clip(err.Error())
}
