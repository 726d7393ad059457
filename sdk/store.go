package sdk

import (
	"google.golang.org/grpc"

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
	return callError("query", s.store.Query(ctx, q, bounded(stream.Send)))
}
