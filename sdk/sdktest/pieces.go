package sdktest

import (
	"context"
	"slices"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// gaps delivers gaps in the place of records that the host has lost: of one, of several, at the beginning of an epoch. Each
// says itself what is missing: there is nothing to ask for.
func gaps(s *sinkTest) {
	p, _ := s.start()
	var last *wire.Batch
	for i, lost := range []int{5, 1, 7} {
		last = s.stream.Gap(Records(uint64(i), lost))
		if r := p.apply(last); r.GetAcknowledged() == nil {
			s.t.Fatalf("a gap of %d records, which has the number of the last of them: %v, want it acknowledged", lost, r)
		}
		p.store(s.next(Records(uint64(i), 10)))
	}
	last = s.stream.Gap(Records(9, 3))
	p.store(last)
	s.sound(p)
	p, marks := s.restart(p)
	if mark := marks[s.stream.Epoch]; mark != s.stream.Last {
		s.t.Errorf("watermark %d after a gap, want %d: it stands for all the records before it, too", mark, s.stream.Last)
	}
	p.store(last)
	p.store(s.next(Records(4, 10)))
	s.complete(p)
	s.sound(p)
}

// pieces delivers batches in parts, and whole ones of which a part is stored.
func pieces(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 20)))
	whole := s.next(Records(2, 50))
	middle := whole.First + 19
	p.store(Part(whole, whole.First, middle))
	p.store(Part(whole, middle+1, middle+1))
	p.store(Part(whole, middle+2, whole.Last))
	p.store(s.next(Records(3, 20)))
	p, _ = s.restart(p)
	p.store(whole)
	whole = s.next(Records(4, 50))
	middle = whole.First + 19
	p.store(Part(whole, whole.First, middle))
	switch r := p.apply(whole); {
	case r.GetAcknowledged() != nil: // a sink is free to store what it lacks of it
	case r.GetRewind() == nil || r.GetRewind().GetWatermark().GetSequence() != middle:
		s.t.Errorf("a batch of which the part up to %d is stored: %v, want a rewind to there", middle, r)
	}
	p.store(Part(whole, middle+1, whole.Last))
	p.store(s.next(Records(5, 10)))
	s.complete(p)
	s.sound(p)
}

// alone delivers batches that were made for this sink: without a root, and with a gap in the place of a record that it
// refused.
func alone(s *sinkTest) {
	p, _ := s.start()
	p.store(s.next(Records(1, 20)))
	own := s.next(Records(2, 20))
	own.Previous, own.Root = nil, nil
	p.store(own)
	p.store(s.next(Records(3, 20)))
	s.sound(p)
	records := Records(4, 19)
	refused := &wire.Record{Kind: &wire.Record_Config{Config: &wire.Config{}}}
	b := s.next(slices.Insert(records, 7, refused))
	refused.Kind = &wire.Record_Gap{Gap: &wire.Gap{Reason: wire.GapReason_GAP_POISON, Epoch: b.Epoch,
		First: refused.Sequence, Last: refused.Sequence}}
	p.store(b)
	p.store(s.next(Records(5, 20)))
	s.complete(p)
}

// sound asks a store that can tell whether it finds anything altered. What has no root proves nothing, and is no damage.
func (s *sinkTest) sound(p *process) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	features := p.describe().GetFeatures()
	if slices.Contains(features, "check") {
		if err := checks(ctx, p, s); err != nil {
			s.t.Errorf("check: %v", err)
		}
	}
	if !slices.Contains(features, "evidence") {
		return
	}
	stream, err := p.Keeper.Evidence(ctx, &wire.EvidenceRequest{})
	err = each(stream, err, func(page *wire.EvidencePage) {
		for _, b := range page.GetBatches() {
			want := wire.BatchEvidence_SOUND
			if len(b.GetRoot()) == 0 {
				want = wire.BatchEvidence_UNKNOWN
			}
			if b.GetState() != want || len(b.GetMissing()) > 0 {
				s.t.Errorf("evidence of %d..%d, root %x: %v, missing %v, want %v", b.GetFirst(), b.GetLast(), b.GetRoot(), b.GetState(),
					b.GetMissing(), want)
			}
		}
	})
	if err != nil {
		s.t.Errorf("evidence: %v", err)
	}
}
