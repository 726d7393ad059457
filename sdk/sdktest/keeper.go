package sdktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// keepsFeatures holds a store to the features that it names, on a few batches.
func keepsFeatures(s *sinkTest) {
	p, _ := s.start()
	features := p.describe().GetFeatures()
	for i := range 3 {
		p.store(s.next(Records(uint64(i), 100)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for _, part := range []struct {
		feature string
		run     func(context.Context, *process, *sinkTest) error
	}{{"check", checks}, {"export", exports}, {"compact", compacts}, {"evidence", proves}} {
		err := part.run(ctx, p, s)
		if named := slices.Contains(features, part.feature); named && err != nil || !named && status.Code(err) != codes.Unimplemented {
			s.t.Errorf("%s (named as a feature: %v): %v", part.feature, named, err)
		}
	}
	s.complete(p)
}

// each reads a stream to its end.
func each[M any](stream grpc.ServerStreamingClient[M], err error, page func(*M)) error {
	for err == nil {
		var m *M
		if m, err = stream.Recv(); err == nil {
			page(m)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func checks(ctx context.Context, p *process, s *sinkTest) error {
	stream, err := p.Keeper.Check(ctx, &wire.CheckRequest{})
	return each(stream, err, func(page *wire.CheckPage) {
		if len(page.GetFindings()) > 0 {
			s.t.Errorf("check finds in a sound store: %q", page.GetFindings())
		}
	})
}

func exports(ctx context.Context, p *process, s *sinkTest) error {
	var file []byte
	stream, err := p.Keeper.Export(ctx, &wire.ExportRequest{Format: wire.ExportFormat_EXPORT_JSON})
	err = each(stream, err, func(piece *wire.Piece) { file = append(file, piece.GetData()...) })
	// An execution is a row of `connections`, too: docs/schema.md.
	if lines := bytes.Count(file, []byte{'\n'}); err == nil && lines != s.flows+s.execs {
		s.t.Errorf("export has %d lines of JSON, want %d flows and %d executions", lines, s.flows, s.execs)
	}
	return err
}

func compacts(ctx context.Context, p *process, _ *sinkTest) error {
	done := false
	stream, err := p.Keeper.Compact(ctx, &wire.CompactRequest{})
	err = each(stream, err, func(m *wire.CompactProgress) { done = m.GetDone() })
	if err == nil && !done {
		return errors.New("ended without saying that it is done")
	}
	return err
}

func proves(ctx context.Context, p *process, s *sinkTest) error {
	next := uint64(1)
	var last *wire.BatchEvidence
	stream, err := p.Keeper.Evidence(ctx, &wire.EvidenceRequest{})
	err = each(stream, err, func(page *wire.EvidencePage) {
		for _, b := range page.GetBatches() {
			last = b
			if b.GetState() != wire.BatchEvidence_SOUND || b.GetFirst() != next {
				s.t.Errorf("evidence of %d..%d is %v, want a sound batch that begins at %d", b.GetFirst(), b.GetLast(), b.GetState(), next)
			}
			next = b.GetLast() + 1
		}
	})
	if err == nil && next != s.stream.Last+1 {
		s.t.Errorf("evidence ends before %d, want it up to %d", next, s.stream.Last)
	}
	if err != nil || last == nil {
		return err
	}
	return provesOne(ctx, p, s, last)
}

// provesOne asks for a batch alone, whose leaves give its root.
func provesOne(ctx context.Context, p *process, s *sinkTest, want *wire.BatchEvidence) error {
	var batches []*wire.BatchEvidence
	stream, err := p.Keeper.Evidence(ctx, &wire.EvidenceRequest{HostId: want.GetHostId(), Epoch: want.GetEpoch(), First: want.GetFirst()})
	err = each(stream, err, func(page *wire.EvidencePage) { batches = append(batches, page.GetBatches()...) })
	if err != nil {
		return err
	}
	if len(batches) != 1 || batches[0].GetFirst() != want.GetFirst() {
		s.t.Errorf("evidence of the batch that begins at %d: %d batches", want.GetFirst(), len(batches))
		return nil
	}
	var leaves []sdk.Hash
	for leaf := range slices.Chunk(batches[0].GetLeaves(), len(sdk.Hash{})) {
		leaves = append(leaves, sdk.Hash(leaf))
	}
	if root := sdk.Root(leaves); !bytes.Equal(root[:], want.GetRoot()) {
		s.t.Errorf("evidence of the batch that begins at %d: its %d leaves give another root", want.GetFirst(), len(leaves))
	}
	return nil
}
