package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// incoming is a file that arrives in pieces. Reading it ends with the context of the call; whether gRPC still waits for a
// piece then does not matter.
type incoming struct {
	*io.PipeReader
	name   string
	size   uint64
	unhook func() bool
}

// close ends the reading, so that whoever sends is not waited for any more.
func (f *incoming) close() {
	f.unhook()
	_ = f.PipeReader.Close() // always nil
}

// receive takes the first piece, which names the file, and begins to receive the others. The goroutine that does so
// counts as a call of its own: it lives until gRPC ends the stream, right after the handler has returned, and a Drain waits
// for it.
func (k *keeperServer) receive(
	ctx context.Context, stream grpc.BidiStreamingServer[wire.ImportPiece, wire.ImportProgress],
) (*incoming, error) {
	_, leave, err := k.trunk.life.enter(ctx, "import", false)
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	first := make(chan *wire.ImportPiece, 1)
	go func() {
		defer leave()
		defer close(first)
		piece, err := stream.Recv()
		if err != nil {
			_ = writer.CloseWithError(fmt.Errorf("receive the first piece: %w", err))
			return
		}
		first <- piece
		_ = writer.CloseWithError(copyPieces(writer, stream, piece))
	}()
	unhook := context.AfterFunc(ctx, func() { _ = writer.CloseWithError(ctx.Err()) })
	select {
	case piece, ok := <-first:
		if ok {
			return &incoming{PipeReader: reader, name: clip(piece.GetName()), size: piece.GetSize(), unhook: unhook}, nil
		}
		_, err := reader.Read(nil)
		return nil, errors.Join(fmt.Errorf("%w: no file came", ErrQuery), err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// copyPieces hands on exactly as many bytes as the first piece announced; nil is the end of the file.
func copyPieces(
	w io.Writer, stream grpc.BidiStreamingServer[wire.ImportPiece, wire.ImportProgress], piece *wire.ImportPiece,
) error {
	size, got := piece.GetSize(), uint64(0)
	for {
		got += uint64(len(piece.GetData()))
		if got > size {
			return fmt.Errorf("%w: the file is longer than the %d bytes announced", ErrQuery, size)
		}
		if _, err := w.Write(piece.GetData()); err != nil {
			return err
		}
		var err error
		piece, err = stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && got == size:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the file ends after %d of %d bytes", ErrQuery, got, size)
		case err != nil:
			return fmt.Errorf("receive after %d of %d bytes: %w", got, size, err)
		}
	}
}
