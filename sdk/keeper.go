package sdk

import (
	"bufio"
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxPiece is how much of a file travels in one message.
const maxPiece = 256 << 10

// keeperServer is the gRPC service of a store that can be looked after. A part that the plugin does not implement answers
// Unimplemented.
type keeperServer struct {
	wire.UnimplementedKeeperServer
	trunk *server
}

// keeperFeatures names the parts of looking after a store that the plugin implements.
func keeperFeatures(p Plugin) []string {
	var names []string
	if _, ok := p.(Exporter); ok {
		names = append(names, "export")
	}
	if _, ok := p.(Importer); ok {
		names = append(names, "import")
	}
	if _, ok := p.(Checker); ok {
		names = append(names, "check")
	}
	if _, ok := p.(Compacter); ok {
		names = append(names, "compact")
	}
	if _, ok := p.(Witness); ok {
		names = append(names, "evidence")
	}
	return names
}

func (k *keeperServer) Export(r *wire.ExportRequest, stream grpc.ServerStreamingServer[wire.Piece]) error {
	exporter, ok := k.trunk.plugin.(Exporter)
	if !ok {
		return lacks("export")
	}
	return k.run(stream.Context(), "export", false, func(ctx context.Context) error {
		out := bufio.NewWriterSize(&pieces{ctx: ctx, stream: stream}, maxPiece)
		if err := exporter.Export(ctx, r, out); err != nil {
			return err
		}
		return out.Flush()
	})
}

func (k *keeperServer) Import(stream grpc.BidiStreamingServer[wire.ImportPiece, wire.ImportProgress]) error {
	importer, ok := k.trunk.plugin.(Importer)
	if !ok {
		return lacks("import")
	}
	return k.run(stream.Context(), "import", true, func(ctx context.Context) error {
		file, err := k.receive(ctx, stream)
		if err != nil {
			return err
		}
		defer file.close()
		return importer.Import(ctx, file.name, file.size, file, bounded(stream.Send))
	})
}

func (k *keeperServer) Check(_ *wire.CheckRequest, stream grpc.ServerStreamingServer[wire.CheckPage]) error {
	checker, ok := k.trunk.plugin.(Checker)
	if !ok {
		return lacks("check")
	}
	return k.run(stream.Context(), "check", false, func(ctx context.Context) error {
		return checker.Check(ctx, bounded(stream.Send))
	})
}

func (k *keeperServer) Compact(_ *wire.CompactRequest, stream grpc.ServerStreamingServer[wire.CompactProgress]) error {
	compacter, ok := k.trunk.plugin.(Compacter)
	if !ok {
		return lacks("compact")
	}
	return k.run(stream.Context(), "compact", true, func(ctx context.Context) error {
		return compacter.Compact(ctx, bounded(stream.Send))
	})
}

func (k *keeperServer) Evidence(r *wire.EvidenceRequest, stream grpc.ServerStreamingServer[wire.EvidencePage]) error {
	witness, ok := k.trunk.plugin.(Witness)
	if !ok {
		return lacks("evidence")
	}
	if n := len(r.GetHostId()); n != 0 && n != 16 {
		return status.Errorf(codes.InvalidArgument, "evidence: host_id: %d bytes, want 16, or none for every host", n)
	}
	if n := len(r.GetEpoch()); n != 0 && (n != 16 || len(r.GetHostId()) == 0) {
		return status.Errorf(codes.InvalidArgument, "evidence: epoch: %d bytes, want 16 and a host_id, or none for every epoch", n)
	}
	return k.run(stream.Context(), "evidence", false, func(ctx context.Context) error {
		return witness.Evidence(ctx, r, bounded(stream.Send))
	})
}

// run is one call of a part, with the lifecycle and errors of every call.
func (k *keeperServer) run(ctx context.Context, what string, writes bool, call func(context.Context) error) error {
	ctx, leave, err := k.trunk.life.enter(ctx, what, false)
	if err != nil {
		return err
	}
	defer leave()
	if writes && k.trunk.settings.ReadOnly {
		return status.Error(codes.FailedPrecondition, what+": the plugin was configured read-only")
	}
	return callError(what, call(ctx))
}

func lacks(what string) error {
	return status.Error(codes.Unimplemented, what+": this store has no such part")
}

// bounded refuses pages that no reader takes.
func bounded[M proto.Message](send func(M) error) func(M) error {
	return func(page M) error {
		if size := proto.Size(page); size > wire.MaxPageBytes {
			return fmt.Errorf("send page: %d bytes encoded, at most %d", size, wire.MaxPageBytes)
		}
		return send(page)
	}
}

// pieces sends what is written to it.
type pieces struct {
	ctx    context.Context // of the call; ends when draining begins
	stream grpc.ServerStreamingServer[wire.Piece]
}

func (p *pieces) Write(data []byte) (int, error) {
	for sent := 0; sent < len(data); {
		if err := p.ctx.Err(); err != nil {
			return sent, err
		}
		// A copy: gRPC may look at a message after Send has returned.
		part := append([]byte(nil), data[sent:min(sent+maxPiece, len(data))]...)
		if err := p.stream.Send(&wire.Piece{Data: part}); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return len(data), nil
}
