package sdk

import (
	"context"
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// options are those of the gRPC server, whatever it is reached by.
func (s *server) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.ChainUnaryInterceptor(s.recoverUnary),
		grpc.ChainStreamInterceptor(s.recoverStream),
	}
}

func (s *server) recoverUnary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (_ any, err error) {
	defer s.recovered(info.FullMethod, &err)
	return handler(ctx, request)
}

func (s *server) recoverStream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return handler(srv, stream)
}

// recovered is deferred: it turns a panic into an error, and into a line on standard error that has the stack.
func (s *server) recovered(method string, err *error) {
	cause := recover()
	if cause == nil {
		return
	}
	s.count.panics.Add(1)
	text := clip(fmt.Sprint(cause))
	s.log.Error("plugin panic", "method", method, "panic", text, "stack", string(debug.Stack()))
	if err != nil {
		*err = status.Errorf(codes.Internal, "%s: panic: %s", method, text)
	}
}
