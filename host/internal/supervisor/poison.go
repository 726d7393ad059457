package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// quarantine is what a Feed is that keeps refused records; [journal.Cursor] is one. Without it they are gone.
type quarantine interface {
	// SetAside keeps records durably.
	SetAside(epoch sdk.Epoch, records []*wire.Record, reason string) error
}

var _ quarantine = (*journal.Cursor)(nil)

// parcel is a batch, or a part of one, on its way to a sink that may refuse records of it. A refused record is set aside and
// replaced by a Gap of the same number, so that the sink's numbers stay without a hole; root and previous stay those of the
// true batch. A part has neither: it is no link of the chain.
type parcel struct {
	batch     journal.Batch
	sink      string
	span      journal.Span // what of the batch
	hopeless  bool         // not even tried: the sink refuses whatever it gets
	content   *wire.Batch  // decoded, when something else than batch.Raw is sent
	sent      []byte       // content encoded; nil: to be done
	condemned map[uint64]bool
}

// raw is what to send.
func (p *parcel) raw() ([]byte, error) {
	if p.content == nil && p.span.First == p.batch.First && p.span.Last == p.batch.Last {
		return p.batch.Raw, nil
	}
	if p.sent == nil {
		content, err := p.decoded()
		if err != nil {
			return nil, err
		}
		if p.sent, err = proto.Marshal(content); err != nil {
			return nil, fmt.Errorf("encode a part of a batch: %w", err)
		}
	}
	return p.sent, nil
}

// decoded is the content of the parcel, which is then sent instead of the batch.
func (p *parcel) decoded() (*wire.Batch, error) {
	if p.content != nil {
		return p.content, nil
	}
	batch := new(wire.Batch)
	if err := proto.Unmarshal(p.batch.Raw, batch); err != nil {
		return nil, fmt.Errorf("decode a batch: %w", err)
	}
	if p.span.First != p.batch.First || p.span.Last != p.batch.Last {
		batch.Records = slices.DeleteFunc(batch.Records, func(r *wire.Record) bool {
			return r.GetSequence() < p.span.First || r.GetSequence() > p.span.Last
		})
		batch.First, batch.Last, batch.Previous, batch.Root = p.span.First, p.span.Last, nil, nil
	}
	p.content = batch
	return batch, nil
}

// rest is the batch from the parcel on.
func (p *parcel) rest() journal.Span {
	return journal.Span{Epoch: p.span.Epoch, First: p.span.First, Last: p.batch.Last}
}

// all tells whether every record is a Gap by now.
func (p *parcel) all() bool { return uint64(len(p.condemned)) == p.span.Last-p.span.First+1 }

// fresh are the records named that are not Gaps yet; all of those when none is named. A sink may name millions.
func (p *parcel) fresh(content *wire.Batch, named []uint64) (records []*wire.Record) {
	meant := map[uint64]bool{}
	for _, sequence := range named {
		if sequence >= p.span.First && sequence <= p.span.Last {
			meant[sequence] = true
		}
	}
	for _, r := range content.GetRecords() {
		if !p.condemned[r.GetSequence()] && (len(named) == 0 || meant[r.GetSequence()]) {
			records = append(records, r)
		}
	}
	return records
}

// replace puts Gaps in the place of records.
func (p *parcel) replace(records []*wire.Record, cause string) (sequences []uint64) {
	if p.condemned == nil {
		p.condemned = map[uint64]bool{}
	}
	for _, r := range records {
		g := gap(p.span.Epoch[:], r.GetSequence(), wire.GapReason_GAP_POISON, cause, p.sink)
		g.Gap.Start, g.Gap.End = moment(r, time.Now())
		r.Kind = g
		p.condemned[r.GetSequence()] = true
		sequences = append(sequences, r.GetSequence())
	}
	p.sent = nil
	return sequences
}

// gap stands for one record; when that was is not in it yet.
func gap(epoch []byte, sequence uint64, reason wire.GapReason, cause, sink string) *wire.Record_Gap {
	return &wire.Record_Gap{Gap: &wire.Gap{
		Reason: reason, Cause: bounded(cause, 200), Epoch: epoch, First: sequence, Last: sequence, Sink: sink,
	}}
}

// refused decides what becomes of a parcel that the sink refuses. Records that it names are replaced. If it names none,
// or all, it may mean only some of them, and the parcel is split until they are found. If it refuses Gaps, nothing will
// do: the sink goes without the parcel.
func (d *delivery) refused(live context.Context, p *parcel, named []uint64, why string) (end, error) {
	content, err := p.decoded()
	if err != nil {
		return endLater, err
	}
	fresh := p.fresh(content, named)
	switch {
	case p.all() || p.batch.Gap:
		d.tell(p, nil, why)
		return endTaken, nil
	case len(fresh) == 0: // it names Gaps, or what is not there
		named = nil
	case len(fresh) == len(content.GetRecords()) && len(fresh) > 1:
		d.suspects.Refused(p.span)
		return endSplit, nil
	}
	return d.condemn(live, p, named, why)
}

// condemn sets records aside and puts Gaps in their place: those named, or all. It tries until they are safe.
func (d *delivery) condemn(live context.Context, p *parcel, named []uint64, why string) (end, error) {
	content, err := p.decoded()
	if err != nil {
		return endLater, err
	}
	fresh := p.fresh(content, named)
	keeper, ok := d.feed.(quarantine)
	for try := 0; ok && !p.batch.Gap; try++ {
		err := keeper.SetAside(p.span.Epoch, fresh, why)
		if err == nil {
			break
		}
		d.delay(live, try, time.Second, err.Error())
		if live.Err() != nil || d.withdrawn(p) || errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrBroken) {
			return endLater, nil // the journal goes on after a start of the host
		}
	}
	d.tell(p, p.replace(fresh, why), why)
	return endAgain, nil
}

// tell reports what the sink does not get.
func (d *delivery) tell(p *parcel, fresh []uint64, why string) {
	d.board.refused(len(fresh))
	d.board.enter(d.board.state(), Event{
		Error:    fmt.Sprintf("records of the batch %v/%d..%d refused: %s", p.span.Epoch, p.span.First, p.span.Last, why),
		Rejected: fresh, Epoch: p.span.Epoch,
	})
}

// replaceDamaged makes a batch with one Gap in the place of one that the disk has lost; the other numbers go without a kind.
func (d *delivery) replaceDamaged(e *journal.DamagedError) (journal.Batch, error) {
	b := journal.Batch{Epoch: e.Epoch, First: e.First, Last: e.Last, Have: e.Have, Gap: true}
	if e.Last < e.First || e.Last-e.First >= wire.MaxBatchRecords {
		return b, fmt.Errorf("replace a damaged batch: %w", e)
	}
	batch := &wire.Batch{HostId: d.o.HostID[:], Epoch: e.Epoch[:], First: e.First, Last: e.Last}
	for sequence := e.First; sequence <= e.Last; sequence++ {
		batch.Records = append(batch.Records, &wire.Record{Sequence: sequence})
	}
	g := gap(e.Epoch[:], e.First, wire.GapReason_GAP_JOURNAL_CORRUPT, "journal page damaged", d.spec.Name)
	g.Gap.Last, g.Gap.Events = e.Last, e.Last-e.First+1
	g.Gap.Start = time.Now().UnixNano() // when they happened was in the page
	g.Gap.End = g.Gap.Start
	batch.Records[len(batch.Records)-1].Kind = g
	raw, err := proto.Marshal(batch)
	if err != nil {
		return b, fmt.Errorf("replace a damaged batch: %w", err)
	}
	b.Raw = raw
	d.board.enter(d.board.state(), Event{Error: fmt.Sprintf(
		"the disk has damaged %d records that waited for it: it gets a gap in their place", e.Last-e.First+1)})
	return b, nil
}
