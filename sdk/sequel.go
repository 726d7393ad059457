package sdk

import (
	"slices"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Sequel is the decision of [Marks] for a sink that looks its watermark up in a database, in the very transaction that is to
// store the batch (docs/wire.md, "Exactly once"). The zero value is ready. It is not safe for concurrent use: Apply needs none.
type Sequel struct {
	asked Watermark // epoch and first record of the batch that was answered with a Rewind last
}

// Decide says whether Apply is to store the batch, where have is the last sequence held of its epoch, 0 if none. With
// false, Apply returns the error: nil for a batch that was stored before, a *[Rewind] for one that does not follow what is
// held. A batch that comes again right after its Rewind is to be stored: the host has nothing older.
func (s *Sequel) Decide(b *Batch, have uint64) (store bool, answer error) {
	this := Watermark{Epoch: b.Epoch, Sequence: b.First}
	switch {
	case b.Last <= have:
		return false, nil
	case b.First == have+1, b.First > have+1 && (s.asked == this || explained(b, have)):
		return true, nil
	}
	s.asked = this
	return false, &Rewind{Have: Watermark{Epoch: b.Epoch, Sequence: have}}
}

// Stored notes that the batch which was decided on is safe.
func (s *Sequel) Stored() { s.asked = Watermark{} }

// Missing is the gap to store beside b by a sink that holds its epoch up to have: of the records between them, which the
// host no longer has. It has the time of the first window of b. nil: nothing is missing, or b itself tells of it. sink is the
// plugin's name.
func Missing(b *Batch, have uint64, sink string) *wire.Gap {
	if b.First <= have+1 || explained(b, have) {
		return nil
	}
	var at int64
	for _, r := range b.GetRecords() {
		if f := r.GetFlow(); f != nil {
			at = f.GetWindow().GetStart()
			break
		}
	}
	return &wire.Gap{Start: at, End: at, Reason: wire.GapReason_GAP_QUEUE_DROPPED, Events: b.First - 1 - have,
		Cause: "never delivered to " + sink, Epoch: b.Epoch[:], First: have + 1, Last: b.First - 1, Sink: sink}
}

// explained says whether a gap in the batch covers the records between have and the batch.
func explained(b *Batch, have uint64) bool {
	return slices.ContainsFunc(b.GetRecords(), func(r *wire.Record) bool {
		g := r.GetGap()
		return g != nil && string(g.GetEpoch()) == string(b.Epoch[:]) && g.GetFirst() <= have+1 && g.GetLast() >= b.First-1
	})
}
