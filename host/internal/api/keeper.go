package api

import (
	"context"
	"errors"
	"fmt"
	"io"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// pieceSize is how much of a file one message has, as the contract says.
const pieceSize = 256 << 10

// Keeper looks after stores. Its errors are those of [Client]: [ErrQuestion] blames the request or the file, [ErrDenied] the
// caller. Contexts need no deadline: what a store does may take long, and ends with ctx.
type Keeper struct{ client wire.KeeperClient }

// NewKeeper asks a daemon or, without one, a store itself.
func NewKeeper(client wire.KeeperClient) *Keeper { return &Keeper{client: client} }

// Export writes a file out of a store to w. After an error what was written is not that file.
func (k *Keeper) Export(ctx context.Context, r *wire.ExportRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := k.client.Export(ctx, r)
	if err != nil {
		return clientError("export", err)
	}
	return each("export", stream.Recv, func(p *wire.Piece) error {
		if _, err := w.Write(p.GetData()); err != nil {
			return fmt.Errorf("write what the store exports: %w", err)
		}
		return nil
	})
}

// Check hands page what a store finds wrong with itself, and facts.
func (k *Keeper) Check(ctx context.Context, store string, page func(*wire.CheckPage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := k.client.Check(ctx, &wire.CheckRequest{Store: store})
	if err != nil {
		return clientError("check", err)
	}
	return each("check", stream.Recv, page)
}

// Compact has a store give back space, and hands on how far it has come.
func (k *Keeper) Compact(ctx context.Context, store string, progress func(*wire.CompactProgress) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := k.client.Compact(ctx, &wire.CompactRequest{Store: store})
	if err != nil {
		return clientError("compact", err)
	}
	return each("compact", stream.Recv, progress)
}

// Evidence hands page what a store can prove of the batches that the request is about.
func (k *Keeper) Evidence(ctx context.Context, r *wire.EvidenceRequest, page func(*wire.EvidencePage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := k.client.Evidence(ctx, r)
	if err != nil {
		return clientError("evidence", err)
	}
	return each("evidence", stream.Recv, page)
}

// Import hands a store the size bytes of r, a file that messages call name, and hands on how far it has come.
func (k *Keeper) Import(ctx context.Context, store, name string, size uint64, r io.Reader, progress func(*wire.ImportProgress) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := k.client.Import(ctx)
	if err != nil {
		return clientError("import", err)
	}
	sent := make(chan error, 1)
	go func() {
		err := sendPieces(stream.Send, &wire.ImportPiece{Store: store, Name: name, Size: size}, r)
		if err != nil {
			cancel() // a file that is not whole must not be taken for one
		} else {
			err = stream.CloseSend()
		}
		sent <- err
	}()
	err = each("import", stream.Recv, progress)
	cancel()
	if serr := <-sent; serr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return serr
	}
	return err
}

// sendPieces reads r to its end. That nobody takes more is no error here: the answer says why.
func sendPieces(send func(*wire.ImportPiece) error, piece *wire.ImportPiece, r io.Reader) error {
	for first := true; ; first = false {
		data := make([]byte, pieceSize) // the message owns it
		n, err := io.ReadFull(r, data)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read the file: %w", err)
		}
		if n > 0 || first {
			piece.Data = data[:n]
			if send(piece) != nil {
				return nil
			}
			piece = &wire.ImportPiece{}
		}
		if err != nil {
			return nil
		}
	}
}
