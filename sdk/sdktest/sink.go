package sdktest

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

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
			part.run(&sinkTest{Options: o, t: t, directory: t.TempDir(), stream: NewStream(1), store: store})
		})
	}
}

// part is one subtest about sinks.
type part struct {
	name string
	run  func(*sinkTest)
}

func inOrder(s *sinkTest) {
	p, _ := s.start()
	for i := range 5 {
		p.store(s.next(Records(uint64(i), 1+i*100)))
	}
	s.complete(p)
}

func redelivery(s *sinkTest) {
	p, _ := s.start()
	batch := s.next(Records(1, 100))
	p.store(batch)
	p, _ = s.restart(p)
	p.store(batch) // as after a lost answer
	p.store(batch)
	p.store(s.next(Records(2, 10)))
	p.store(batch) // older than the last
	s.complete(p)
}

func missing(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 10)))
	have := s.stream.Last
	skipped := s.next(Records(2, 10))
	late := s.next(Records(3, 10))
	switch r := p.apply(late); {
	case r.GetAcknowledged() != nil: // a sink that does not count is free to take it
		p.kill()
		if _, marks := s.start(); len(marks) > 0 {
			s.t.Errorf("a sink that remembers watermarks (%v) took a batch after a hole, want a rewind", marks)
		}
	case r.GetRewind() != nil:
		if mark := r.GetRewind().GetWatermark(); mark.GetSequence() != have {
			s.t.Errorf("rewind to %d, want %d", mark.GetSequence(), have)
		}
		p.store(skipped)
		p.store(late)
		s.complete(p)
	default:
		s.t.Errorf("a batch after a hole: %v, want it acknowledged, or a rewind", r)
	}
}

func lost(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 10)))
	s.stream.Next(Records(2, 10)) // the host has dropped these
	late := s.next(Records(3, 10))
	if r := p.apply(late); r.GetAcknowledged() == nil && r.GetRewind() == nil {
		s.t.Errorf("a batch after a hole: %v, want it acknowledged, or a rewind", r)
	}
	p.store(late)
	p.store(s.next(Records(4, 10)))
	s.complete(p)
}

func resumes(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 50)))
	for i := range 3 {
		p = s.interrupt(p, s.next(Records(uint64(i), 500)), 0)
	}
	s.complete(p)
}

func epochs(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 20)))
	old := s.stream
	s.stream = NewStream(2)
	p.store(s.next(Records(2, 5)))
	p, marks := s.restart(p)
	if marks[old.Epoch] != 20 || marks[s.stream.Epoch] != 5 {
		s.t.Errorf("watermarks %v, want 20 in the first epoch and 5 in the second", marks)
	}
	s.stream = old
	p.store(s.next(Records(3, 5))) // undelivered batches keep the epoch they were written under
	s.complete(p)
}

func hostile(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Hostile()))
	p.store(s.next(Records(1, 1)))
	s.complete(p)
}

func unknownKind(s *sinkTest) {
	p, _ := s.start()
	future := &wire.Record{}
	future.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 500, protowire.BytesType), []byte("news")))
	p.store(s.next(append(Records(1, 3), future, &wire.Record{})))
	p.store(s.next(Records(2, 3)))
	s.complete(p)
}

func largest(s *sinkTest) {
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
		s.t.Fatalf("the suite's own batch has %d bytes", size)
	}
	p.store(batch)
	s.complete(p)
}

func noBatch(s *sinkTest) {
	p, _ := s.start()
	hole := NewStream(1).Next(Records(1, 3))
	hole.Records[1].Sequence = 7
	short := NewStream(1).Next(Records(1, 3))
	short.Last = 9
	for name, batch := range map[string]*wire.Batch{"a hole in its records": hole, "a wrong range": short, "nothing": {}} {
		if code := p.refused(batch); code != codes.InvalidArgument {
			s.t.Errorf("a batch with %s: %v, want %v", name, code, codes.InvalidArgument)
		}
	}
	p.store(s.next(Records(1, 3)))
	s.complete(p)
}

func drains(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 30)))
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := p.Plugin.Drain(ctx, &wire.DrainRequest{}); err != nil {
		s.t.Fatalf("drain: %v", err)
	}
	if code := p.refused(NewStream(3).Next(Records(1, 1))); code != codes.FailedPrecondition {
		s.t.Errorf("apply after drain: %v, want %v", code, codes.FailedPrecondition)
	}
	p, marks := s.restart(p)
	if marks[s.stream.Epoch] != 30 {
		s.t.Errorf("watermark %v after drain, want 30", marks)
	}
	s.complete(p)
}
