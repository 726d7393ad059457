package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// How batches are handed over.
const (
	applyTime   = 30 * time.Second
	applyMisses = 3 // deadlines in a row that make a sink hung
	maxRewinds  = 8 // in a row, without a record taken in between
	minRetry    = 100 * time.Millisecond
	maxRetry    = 60 * time.Second
	maxAlone    = 16 // records in a row that are each to blame alone: then the rest of the batch goes with them
)

// delivery hands one incarnation of a sink its batches, one at a time and in order.
type delivery struct {
	*running
	suspects *journal.Suspects
	done     chan struct{} // closed when loop has ended
	err      error         // why the incarnation must end; valid once done is closed
	rewinds  int           // in a row
	rewound  sdk.Watermark // to which the last one went
	giveUp   func()        // set while the host stops: who asks to wait is not waited for
}

func newDelivery(r *running) *delivery {
	d := &delivery{running: r, suspects: new(journal.Suspects), done: make(chan struct{})}
	if feed, ok := r.feed.(interface{ Suspects() *journal.Suspects }); ok {
		d.suspects = feed.Suspects() // they outlive the incarnation
	}
	return d
}

// loop delivers until ctx is done or stopping is closed; a batch under way is finished in the second case.
func (d *delivery) loop(ctx context.Context, stopping <-chan struct{}) {
	defer close(d.done)
	live, cancel := untilStopping(ctx, stopping)
	defer cancel()
	if d.feed == nil {
		<-live.Done()
		return
	}
	for live.Err() == nil {
		if _, d.err = d.next(live, ctx); d.err != nil {
			return
		}
	}
}

// rest delivers what is left, until the sink asks to wait.
func (d *delivery) rest(budget context.Context) {
	if d.feed == nil {
		return
	}
	impatient, cancel := context.WithCancel(budget)
	defer cancel()
	d.giveUp = cancel // the journal keeps what a sink does not take now
	for d.feed.Lag() > 0 && budget.Err() == nil {
		before := d.feed.Lag()
		if _, err := d.next(impatient, budget); err != nil || d.feed.Lag() >= before || d.waits.Load() {
			return
		}
	}
}

// next waits for a batch as long as live lasts, and delivers it; calls under way end with ctx. taken says that the sink has
// it. An error means that the incarnation is of no more use.
func (d *delivery) next(live, ctx context.Context) (taken bool, err error) {
	b, err := d.feed.Next(live)
	var damaged *journal.DamagedError
	switch {
	case errors.As(err, &damaged):
		b, err = d.replaceDamaged(damaged)
		if err != nil {
			return false, err
		}
	case live.Err() != nil:
		return false, nil
	case err != nil:
		// Not the plugin's fault; restarting it would not help.
		d.board.degrade(fmt.Sprintf("read the journal: %v", err))
		pause(live, nil, time.Second)
		return false, nil
	}
	return d.deliver(live, ctx, b)
}

// deliver hands over what the sink lacks of a batch: as one, unless something in it is suspected to be more than the sink
// can take. taken says that the sink has it all.
func (d *delivery) deliver(live, ctx context.Context, b journal.Batch) (taken bool, err error) {
	left := journal.Span{Epoch: b.Epoch, First: max(b.First, b.Have+1), Last: b.Last}
	alone := 0 // records in a row that were to blame alone
	for left.First <= left.Last {
		p := &parcel{batch: b, sink: d.spec.Name, span: left, hopeless: alone >= maxAlone}
		if !p.hopeless {
			p.span.Last = d.suspects.Cut(left)
		}
		end, err := d.hand(live, ctx, p)
		switch {
		case err != nil || end == endLater:
			return false, err
		case end == endSplit:
			continue
		}
		if alone++; len(p.condemned) == 0 || p.span.First != p.span.Last {
			alone = 0
		}
		if err := d.acknowledge(p.span); err != nil {
			return false, err
		}
		left.First = p.span.Last + 1
	}
	return true, nil
}

// caller is a Feed that gives up no records which the sink is just being given; [journal.Cursor] is one.
type caller interface {
	Call(journal.Span) bool
	Called()
}

var _ caller = (*journal.Cursor)(nil)

// withdrawn says that somebody gave up, while the sink made us wait, what we have for it: the journal has a Gap instead.
func (d *delivery) withdrawn(p *parcel) bool {
	feed, ok := d.feed.(interface{ Withdrawn(journal.Span) bool })
	return ok && !p.batch.Gap && feed.Withdrawn(p.span)
}

// hand hands over one parcel, again and again until there is an outcome.
func (d *delivery) hand(live, ctx context.Context, p *parcel) (end, error) {
	if why := d.blame(p); why != "" {
		if end, err := d.condemn(live, p, nil, why); err != nil || end != endAgain {
			return end, err
		}
	}
	misses := 0
	for try := 0; ; try++ {
		raw, err := p.raw()
		if err != nil {
			return endLater, err
		}
		feed, ok := d.feed.(caller)
		if ok = ok && !p.batch.Gap; ok && !feed.Call(p.rest()) {
			return endLater, nil // withdrawn
		}
		response, err := d.apply(ctx, raw)
		if ok && response.GetAcknowledged() == nil {
			feed.Called() // else acknowledge says so
		}
		if err != nil && ctx.Err() != nil {
			return endLater, nil
		}
		if misses++; status.Code(err) != codes.DeadlineExceeded {
			misses = 0
		}
		end := endAgain
		switch {
		case instance.Gone(err) || misses == applyMisses:
			return d.lost(live, p, err)
		case status.Code(err) == codes.InvalidArgument:
			end, err = d.refused(live, p, nil, said("apply", err).Error())
		case misses > 0:
			d.delay(live, try, 0, "apply: no answer within "+applyTime.String())
			err = nil
		case err != nil:
			d.delay(live, try, 0, said("apply", err).Error())
			err = nil
		default:
			end, err = d.outcome(live, try, p, response)
		}
		if err != nil || end != endAgain {
			return end, err
		}
		if live.Err() != nil {
			return endLater, nil
		}
	}
}

// blame says why a parcel is not even tried; "": it is.
func (d *delivery) blame(p *parcel) string {
	switch {
	case p.hopeless:
		return "the sink refuses everything"
	case d.suspects.Blamed(p.span):
		return "the sink ends over it"
	}
	return ""
}

// lost ends an incarnation that is dead, or hung, over a parcel. One that was being stopped proves nothing.
func (d *delivery) lost(live context.Context, p *parcel, err error) (end, error) {
	if live.Err() == nil {
		d.suspects.Died(p.span)
	}
	if instance.Gone(err) {
		return endLater, said("apply", err)
	}
	return endLater, errHung
}

// end is what becomes of a parcel.
type end int

const (
	endAgain end = iota // the same once more
	endTaken            // the sink has it, or goes without
	endSplit            // in smaller parts
	endLater            // not now: stopping, or the place has changed
)

func (d *delivery) apply(ctx context.Context, raw []byte) (*wire.ApplyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	return d.inc.client.Sink.Apply(ctx, &wire.ApplyRequest{Codec: wire.CodecProto, Batch: raw})
}

// outcome acts on an answer.
func (d *delivery) outcome(live context.Context, try int, p *parcel, r *wire.ApplyResponse) (end, error) {
	switch {
	case r.GetAcknowledged() != nil:
		mark, err := watermark(r.GetAcknowledged().GetWatermark())
		if err != nil {
			return endLater, err
		}
		if mark.Epoch != p.span.Epoch || mark.Sequence < p.span.Last {
			return endLater, protocolError("it acknowledges %v/%d for the batch %v/%d..%d",
				mark.Epoch, mark.Sequence, p.span.Epoch, p.span.First, p.span.Last)
		}
		return endTaken, nil
	case r.GetRetryAfter() != nil:
		retry := r.GetRetryAfter()
		asked, why := time.Duration(retry.GetDelay()), bounded(retry.GetReason(), 1024)
		if retry.GetDownstream() {
			asked, why = d.patience(try, asked), behind+why
		}
		d.delay(live, try, asked, why)
		return endAgain, nil
	case r.GetRejected() != nil:
		return d.refused(live, p, r.GetRejected().GetSequences(), bounded(r.GetRejected().GetReason(), 1024))
	case r.GetRewind() != nil:
		return endLater, d.rewind(r.GetRewind().GetWatermark())
	}
	return endLater, protocolError("it answers a batch with nothing")
}

// acknowledge moves on.
func (d *delivery) acknowledge(s journal.Span) error {
	d.suspects.Passed(s)
	mark := sdk.Watermark{Epoch: s.Epoch, Sequence: s.Last}
	if err := d.feed.Ack(mark); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	d.rewinds = 0
	d.proved.Store(true)
	d.waits.Store(false)
	d.board.acknowledged(mark)
	d.board.works()
	if d.board.state() == StateDegraded {
		d.board.enter(StateRunning, Event{})
	}
	return nil
}

// behind begins what is told of a sink that waits for a server or a disk: it is degraded, and not to blame.
const behind = "waits for what is behind it: "

// knowing is the delay from which on a sink is taken at its word: it knows what it waits for.
const knowing = time.Second

// patience is how long to leave a sink alone whose trouble lies behind it: as long as it asks; ever longer, up to
// maxRetry, when it asks for next to nothing, or a dead server would be asked ten times a second.
func (d *delivery) patience(try int, asked time.Duration) time.Duration {
	if asked >= knowing {
		return asked
	}
	limit := min(maxRetry, firstDelay<<min(try, 10))
	return limit/2 + time.Duration(d.o.Jitter()*float64(limit/2))
}

// delay waits as long as the sink asks, or ever longer when it does not say.
func (d *delivery) delay(live context.Context, try int, asked time.Duration, why string) {
	d.waits.Store(true)
	d.board.degrade(why)
	if d.giveUp != nil {
		d.giveUp()
		return
	}
	if asked <= 0 {
		limit := min(maxRetry, firstDelay<<min(try, 10))
		asked = time.Duration(d.o.Jitter() * float64(limit))
	}
	pause(live, nil, min(max(asked, minRetry), maxRetry))
}

// rewind goes back to what the sink misses.
func (d *delivery) rewind(to *wire.Watermark) error {
	mark, err := watermark(to)
	if err != nil {
		return err
	}
	if d.rewinds++; d.rewinds > maxRewinds {
		return fmt.Errorf("it asks to rewind to %v/%d again and again", mark.Epoch, mark.Sequence)
	}
	told := d.rewinds > 1 && mark == d.rewound // a sink asks again if it gets another batch than the one that it refused
	d.rewound = mark
	sought := d.feed.Seek([]sdk.Watermark{mark})
	if len(sought.Lost)+len(sought.RolledBack) > 0 && !told { // else it gets all that it asks for, and nobody need care
		d.board.enter(d.board.state(), Event{
			Error: fmt.Sprintf("it lacks what it had from record %d of run %v on, and gets again what is still kept", mark.Sequence+1, mark.Epoch), Sought: sought,
		})
	}
	return nil
}
