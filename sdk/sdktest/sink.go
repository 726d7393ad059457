package sdktest

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// runSink runs the parts of the suite that are about sinks.
func runSink(t *testing.T, o Options, store bool) {
	t.Helper()
	parts := []part{
		{"takes batches in order", inOrder},
		{"acknowledges a stored batch again, stores it once", redelivery},
		{"asks for what is missing", missing},
		{"takes a batch whose predecessors are lost", lost},
		{"takes a gap in the place of records", gaps},
		{"takes a batch in parts", pieces},
		{"takes batches made for it alone", alone},
		{"resumes after kill -9", resumes},
		{"survives kill -9 at any moment of a batch", anyMoment},
		{"stores a batch once whose answer nobody waits for", impatient},
		{"keeps epochs apart", epochs},
		{"takes hostile text", hostile},
		{"skips kinds of records that it does not know", unknownKind},
		{"takes the largest batch", largest},
		{"takes records of the greatest length", longest},
		{"refuses what is no batch", noBatch},
		{"takes nothing when it is to read only", readOnly},
		{"drains", drains},
	}
	if store {
		parts = append(parts, part{"does what its features say", keepsFeatures})
	}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			part.run(t, &sinkTest{Options: o, t: t, directory: t.TempDir(), stream: NewStream(1), store: store})
		})
	}
}

// part is one subtest about sinks.
type part struct {
	name string
	run  func(*testing.T, *sinkTest)
}

// sinkTest is what the parts about sinks have in common.
type sinkTest struct {
	Options
	t         *testing.T
	directory string
	stream    *Stream
	store     bool
	flows     int    // delivered
	execs     int    // delivered
	sent      uint64 // sum over the flows
}

// start starts the plugin on the test's directory.
func (s *sinkTest) start() (*process, map[sdk.Epoch]uint64) {
	s.t.Helper()
	p := start(s.t, s.Options)
	return p, p.configure(s.Options, s.stream, s.directory)
}

// next is the stream's next batch; what it holds is expected to be in the store from now on.
func (s *sinkTest) next(records []*wire.Record) *wire.Batch {
	for _, r := range records {
		if f := r.GetFlow(); f != nil {
			s.flows++
			s.sent += f.GetSent()
		}
		if r.GetExec() != nil {
			s.execs++
		}
	}
	return s.stream.Next(records)
}

// complete checks that the sink holds what was delivered, nothing twice.
func (s *sinkTest) complete(p *process) {
	s.t.Helper()
	switch {
	case s.Count != nil:
		if n, err := s.Count(s.directory); err != nil || n != s.flows {
			s.t.Errorf("%d flows stored (%v), want %d", n, err, s.flows)
		}
	case s.store:
		if sent, err := totalSent(p); err != nil || sent != s.sent {
			s.t.Errorf("the store's total is %d bytes sent (%v), want %d", sent, err, s.sent)
		}
	}
}

// totalSent asks a store for the sum of everything sent.
func totalSent(p *process) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := p.Store.Query(ctx, &wire.Query{What: wire.Query_FLOWS})
	if err != nil {
		return 0, err
	}
	var sent uint64
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return 0, err
		}
		for _, row := range page.GetRows() {
			sent += row.GetMeasures().GetSent()
		}
	}
}

func inOrder(_ *testing.T, s *sinkTest) {
	p, _ := s.start()
	for i := range 5 {
		p.store(s.next(Records(uint64(i), 1+i*100)))
	}
	s.complete(p)
}

func redelivery(_ *testing.T, s *sinkTest) {
	p, _ := s.start()
	batch := s.next(Records(1, 100))
	p.store(batch)
	p.kill()
	p, marks := s.start()
	if len(marks) == 0 {
		s.t.Skip("a sink without memory gets batches at least once")
	}
	p.store(batch) // as after a lost answer
	p.store(batch)
	p.store(s.next(Records(2, 10)))
	p.store(batch) // older than the last
	s.complete(p)
}

func missing(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 10)))
	have := s.stream.Last
	skipped := s.next(Records(2, 10))
	late := s.next(Records(3, 10))
	switch r := p.apply(late); {
	case r.GetAcknowledged() != nil: // a sink that does not count is free to take it
		p.kill()
		if _, marks := s.start(); len(marks) > 0 {
			t.Errorf("a sink that remembers watermarks (%v) took a batch after a hole, want a rewind", marks)
		}
	case r.GetRewind() != nil:
		if mark := r.GetRewind().GetWatermark(); mark.GetSequence() != have {
			t.Errorf("rewind to %d, want %d", mark.GetSequence(), have)
		}
		p.store(skipped)
		p.store(late)
		s.complete(p)
	default:
		t.Errorf("a batch after a hole: %v, want it acknowledged, or a rewind", r)
	}
}

func lost(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 10)))
	s.stream.Next(Records(2, 10)) // the host has dropped these
	late := s.next(Records(3, 10))
	if r := p.apply(late); r.GetAcknowledged() == nil && r.GetRewind() == nil {
		t.Errorf("a batch after a hole: %v, want it acknowledged, or a rewind", r)
	}
	p.store(late)
	p.store(s.next(Records(4, 10)))
	s.complete(p)
}

func resumes(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 50)))
	for i := range 3 {
		have := s.stream.Last
		open := s.next(Records(uint64(i), 500))
		p.interrupt(open, 0)
		var marks map[sdk.Epoch]uint64
		if p, marks = s.start(); len(marks) == 0 {
			t.Skip("a sink without memory gets batches at least once")
		}
		if mark := marks[s.stream.Epoch]; mark != have && mark != open.GetLast() {
			t.Fatalf("watermark %d after kill -9, want %d or %d: a batch is stored whole or not at all", mark, have, open.GetLast())
		}
		p.store(open)
	}
	s.complete(p)
}

func epochs(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 20)))
	old := s.stream
	s.stream = NewStream(2)
	p.store(s.next(Records(2, 5)))
	p.kill()
	p, marks := s.start()
	if len(marks) == 0 {
		t.Skip("a sink without memory")
	}
	if marks[old.Epoch] != 20 || marks[s.stream.Epoch] != 5 {
		t.Errorf("watermarks %v, want 20 in the first epoch and 5 in the second", marks)
	}
	s.stream = old
	p.store(s.next(Records(3, 5))) // undelivered batches keep the epoch they were written under
	s.complete(p)
}

func hostile(_ *testing.T, s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Hostile()))
	p.store(s.next(Records(1, 1)))
	s.complete(p)
}

func unknownKind(_ *testing.T, s *sinkTest) {
	p, _ := s.start()
	future := &wire.Record{}
	future.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 500, protowire.BytesType), []byte("news")))
	p.store(s.next(append(Records(1, 3), future, &wire.Record{})))
	p.store(s.next(Records(2, 3)))
	s.complete(p)
}

func largest(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	records := make([]*wire.Record, wire.MaxBatchRecords)
	for i, r := range Records(1, len(records)) {
		f := r.GetFlow()
		if f != nil { // lighter ones: MaxBatchBytes is not to be the limit that is met first
			f.Process, f.Parent, f.Grandparent = &wire.Process{Name: f.GetProcess().GetName()}, nil, nil
		}
		records[i] = r
	}
	batch := s.next(records)
	if size := proto.Size(batch); size > wire.MaxBatchBytes {
		t.Fatalf("the suite's own batch has %d bytes", size)
	}
	p.store(batch)
	s.complete(p)
}

func noBatch(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	hole := NewStream(1).Next(Records(1, 3))
	hole.Records[1].Sequence = 7
	short := NewStream(1).Next(Records(1, 3))
	short.Last = 9
	for name, batch := range map[string]*wire.Batch{"a hole in its records": hole, "a wrong range": short, "nothing": {}} {
		if code := p.refused(batch); code != codes.InvalidArgument {
			t.Errorf("a batch with %s: %v, want %v", name, code, codes.InvalidArgument)
		}
	}
	p.store(s.next(Records(1, 3)))
	s.complete(p)
}

func drains(t *testing.T, s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 30)))
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := p.Plugin.Drain(ctx, &wire.DrainRequest{}); err != nil {
		t.Fatalf("drain: %v", err)
	}
	if code := p.refused(NewStream(3).Next(Records(1, 1))); code != codes.FailedPrecondition {
		t.Errorf("apply after drain: %v, want %v", code, codes.FailedPrecondition)
	}
	p.kill()
	p, marks := s.start()
	if len(marks) == 0 {
		t.Skip("a sink without memory")
	}
	if marks[s.stream.Epoch] != 30 {
		t.Errorf("watermark %v after drain, want 30", marks)
	}
	s.complete(p)
}
