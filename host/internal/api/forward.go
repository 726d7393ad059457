package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// keeper serves the contract's Keeper service: each call goes on to the store that its request names.
type keeper struct {
	wire.UnimplementedKeeperServer
	*service
}

// locator serves the contract's Locator service in the same way.
type locator struct {
	wire.UnimplementedLocatorServer
	*service
}

// begin checks the right to keep a store and takes a slot.
func (s *service) begin(ctx context.Context) (Forwarder, func(), error) {
	if err := s.need(ctx, mayKeep, "the care of stores is given"); err != nil {
		return nil, nil, err
	}
	forwarder, ok := s.backend.(Forwarder)
	if !ok {
		return nil, nil, missing("way to its stores")
	}
	end, err := s.keeping.take("stores are being looked after")
	return forwarder, end, err
}

// Export streams a file out of a store.
func (k keeper) Export(r *wire.ExportRequest, stream grpc.ServerStreamingServer[wire.Piece]) error {
	return pass(k.service, r.GetStore(), "export", stream, func(ctx context.Context, c *sdk.Client) (grpc.ServerStreamingClient[wire.Piece], error) {
		return c.Keeper.Export(ctx, r)
	})
}

// Check has a store look for damage.
func (k keeper) Check(r *wire.CheckRequest, stream grpc.ServerStreamingServer[wire.CheckPage]) error {
	return pass(k.service, r.GetStore(), "check", stream, func(ctx context.Context, c *sdk.Client) (grpc.ServerStreamingClient[wire.CheckPage], error) {
		return c.Keeper.Check(ctx, r)
	})
}

// Compact has a store give back space.
func (k keeper) Compact(r *wire.CompactRequest, stream grpc.ServerStreamingServer[wire.CompactProgress]) error {
	return pass(k.service, r.GetStore(), "compact", stream, func(ctx context.Context, c *sdk.Client) (grpc.ServerStreamingClient[wire.CompactProgress], error) {
		return c.Keeper.Compact(ctx, r)
	})
}

// Evidence tells what a store can prove.
func (k keeper) Evidence(r *wire.EvidenceRequest, stream grpc.ServerStreamingServer[wire.EvidencePage]) error {
	return pass(k.service, r.GetStore(), "evidence", stream, func(ctx context.Context, c *sdk.Client) (grpc.ServerStreamingClient[wire.EvidencePage], error) {
		return c.Keeper.Evidence(ctx, r)
	})
}

// pass hands on every message of a store's answer.
func pass[T any](s *service, store, what string, down grpc.ServerStreamingServer[T],
	call func(context.Context, *sdk.Client) (grpc.ServerStreamingClient[T], error)) error {
	forwarder, end, err := s.begin(down.Context())
	if err != nil {
		return err
	}
	defer end()
	err = forwarder.Use(down.Context(), "store", store, func(ctx context.Context, c *sdk.Client) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the plugin's work when the asker has gone
		up, err := call(ctx, c)
		if err != nil {
			return err
		}
		return drain(up.Recv, down.Send)
	})
	return answerError(unable(what, err))
}

// drain moves messages until there are no more.
func drain[T any](next func() (*T, error), give func(*T) error) error {
	for {
		message, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if size := proto.Size(any(message).(proto.Message)); size > wire.MaxPageBytes {
			return status.Errorf(codes.Internal, "the store sent a message of %d bytes, at most %d are allowed", size, wire.MaxPageBytes)
		}
		if err := give(message); err != nil {
			return err
		}
	}
}

// Import streams a file into a store. Pieces go up in this goroutine, progress comes down in another: when the store has
// ended, sending to it fails, and both are over.
func (k keeper) Import(down grpc.BidiStreamingServer[wire.ImportPiece, wire.ImportProgress]) error {
	forwarder, end, err := k.begin(down.Context())
	if err != nil {
		return err
	}
	defer end()
	first, err := down.Recv()
	if err != nil {
		return err
	}
	err = forwarder.Use(down.Context(), "store", first.GetStore(), func(ctx context.Context, c *sdk.Client) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		up, err := c.Keeper.Import(ctx)
		if err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- drain(up.Recv, down.Send) }()
		if err := raise(first, down.Recv, up); err != nil {
			cancel()
			<-ended
			return err
		}
		return <-ended
	})
	return answerError(unable("import", err))
}

// raise sends the pieces of a file. That the store takes no more is no error of its own: the store says why.
func raise(piece *wire.ImportPiece, next func() (*wire.ImportPiece, error), up grpc.BidiStreamingClient[wire.ImportPiece, wire.ImportProgress]) error {
	for {
		if err := up.Send(piece); err != nil {
			return nil
		}
		var err error
		if piece, err = next(); errors.Is(err, io.EOF) {
			return up.CloseSend()
		} else if err != nil {
			return err
		}
	}
}

// Locate asks a locator where addresses lie.
func (l locator) Locate(ctx context.Context, r *wire.LocateRequest) (*wire.LocateResponse, error) {
	if err := l.need(ctx, mayLocate, "locations are shown"); err != nil {
		return nil, err
	}
	forwarder, ok := l.backend.(Forwarder)
	if !ok {
		return nil, missing("way to its plugins")
	}
	const most = 1024
	if len(r.GetIps()) > most {
		return nil, status.Errorf(codes.InvalidArgument, "locate: %d addresses, at most %d", len(r.GetIps()), most)
	}
	end, err := l.queries.take("queries are being answered")
	if err != nil {
		return nil, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, actTime)
	defer cancel()
	var answer *wire.LocateResponse
	err = forwarder.Use(ctx, "locator", "", func(ctx context.Context, c *sdk.Client) error {
		var err error
		answer, err = c.Locator.Locate(ctx, r)
		return err
	})
	return answer, answerError(unable("locate", err))
}

// unable puts into words that a plugin lacks an optional part of the contract.
func unable(what string, err error) error {
	if status.Code(err) == codes.Unimplemented {
		return status.Errorf(codes.Unimplemented, "%s: the plugin does not offer it", what)
	}
	return err
}
