package sdk

import (
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// storeServer is the store's gRPC service.
type storeServer struct {
	wire.UnimplementedStoreServer
	trunk *server
	store Store
}

func (s *storeServer) Query(q *wire.Query, stream grpc.ServerStreamingServer[wire.QueryPage]) error {
	ctx, leave, err := s.trunk.life.enter(stream.Context(), "query", false)
	if err != nil {
		return err
	}
	defer leave()
	s.trunk.count.queries.Add(1)
	err = s.store.Query(ctx, q, bounded(stream.Send))
	if errors.Is(err, ErrQuery) {
		return status.Error(codes.InvalidArgument, clip(err.Error()))
	}
	return callError("query", err)
}
