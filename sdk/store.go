package sdk

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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
	err = s.store.Query(ctx, q, func(page *wire.QueryPage) error {
		if size := proto.Size(page); size > wire.MaxPageBytes {
			return fmt.Errorf("send page: %d bytes encoded, at most %d", size, wire.MaxPageBytes)
		}
		return stream.Send(page)
	})
	if errors.Is(err, ErrQuery) {
		return status.Error(codes.InvalidArgument, clip(err.Error()))
	}
	return callError("query", err)
}
