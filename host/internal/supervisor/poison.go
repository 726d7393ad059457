package supervisor

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// poisoned is a batch on its way to a sink that may refuse records of it. A refused record is replaced by a Gap of the same
// number, so that the sink's numbers stay without a hole; root and previous stay those of the true batch.
type poisoned struct {
	batch    journal.Batch
	sink     string
	replaced []byte // what is sent instead of batch.Raw; nil: nothing is
	whole    bool   // every record is replaced
	given    bool   // the sink refused even that: it goes without the batch
}

func (p *poisoned) raw() []byte {
	if p.replaced != nil {
		return p.replaced
	}
	return p.batch.Raw
}

// refuse replaces the records named, or all when none is, or when it was asked before. It returns the sequences that were
// not replaced before.
func (p *poisoned) refuse(sequences []uint64, cause string) (fresh []uint64, err error) {
	switch {
	case p.whole:
		p.given = true
		return nil, nil
	case len(sequences) == 0 || p.replaced != nil:
		p.whole = true
	}
	batch := new(wire.Batch)
	if err := proto.Unmarshal(p.raw(), batch); err != nil {
		return nil, fmt.Errorf("decode the batch refused: %w", err)
	}
	for _, record := range batch.GetRecords() {
		already := record.GetGap().GetReason() == wire.GapReason_GAP_POISON && record.GetGap().GetSink() == p.sink
		if !already && (p.whole || slices.Contains(sequences, record.GetSequence())) {
			record.Kind = gap(batch.GetEpoch(), record.GetSequence(), wire.GapReason_GAP_POISON, cause, p.sink)
			fresh = append(fresh, record.GetSequence())
		}
	}
	raw, err := proto.Marshal(batch)
	if err != nil {
		return nil, fmt.Errorf("encode the batch without what was refused: %w", err)
	}
	p.replaced = raw
	return fresh, nil
}

func gap(epoch []byte, sequence uint64, reason wire.GapReason, cause, sink string) *wire.Record_Gap {
	return &wire.Record_Gap{Gap: &wire.Gap{
		Reason: reason, Cause: bounded(cause, 200), Epoch: epoch, First: sequence, Last: sequence, Sink: sink,
	}}
}

// refused tells of records that the sink cannot store, and goes on without them.
func (d *delivery) refused(p *poisoned, sequences []uint64, why string) error {
	fresh, err := p.refuse(sequences, why)
	if err != nil {
		return err
	}
	d.board.refused(len(fresh))
	d.board.enter(d.board.state(), Event{
		Error:    fmt.Sprintf("records of the batch %v/%d..%d refused: %s", p.batch.Epoch, p.batch.First, p.batch.Last, why),
		Rejected: fresh, Epoch: p.batch.Epoch,
	})
	if p.given {
		return d.acknowledge(p.batch)
	}
	return nil
}

// replaceDamaged makes a batch of Gaps in the place of one that the disk has lost.
func (d *delivery) replaceDamaged(e *journal.DamagedError) (journal.Batch, error) {
	b := journal.Batch{Epoch: e.Epoch, First: e.First, Last: e.Last}
	if e.Last < e.First || e.Last-e.First >= wire.MaxBatchRecords {
		return b, fmt.Errorf("replace a damaged batch: %w", e)
	}
	batch := &wire.Batch{HostId: d.o.HostID[:], Epoch: e.Epoch[:], First: e.First, Last: e.Last}
	for sequence := e.First; sequence <= e.Last; sequence++ {
		batch.Records = append(batch.Records, &wire.Record{Sequence: sequence,
			Kind: gap(e.Epoch[:], sequence, wire.GapReason_GAP_JOURNAL_CORRUPT, "journal page damaged", d.spec.Name)})
	}
	raw, err := proto.Marshal(batch)
	if err != nil {
		return b, fmt.Errorf("replace a damaged batch: %w", err)
	}
	b.Raw = raw
	d.board.enter(d.board.state(), Event{Error: e.Error()})
	return b, nil
}
