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
)

// delivery hands one incarnation of a sink its batches, one at a time and in order.
type delivery struct {
	*running
	done    chan struct{} // closed when loop has ended
	err     error         // why the incarnation must end; valid once done is closed
	rewinds int
}

func newDelivery(r *running) *delivery { return &delivery{running: r, done: make(chan struct{})} }

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

// deliver hands over one batch, again and again until there is an outcome.
func (d *delivery) deliver(live, ctx context.Context, b journal.Batch) (taken bool, err error) {
	poison := poisoned{batch: b, sink: d.spec.Name}
	misses := 0
	for try := 0; ; try++ {
		response, err := d.apply(ctx, poison.raw())
		switch {
		case err != nil && ctx.Err() != nil:
			return false, nil
		case instance.Gone(err):
			return false, said("apply", err)
		case status.Code(err) == codes.DeadlineExceeded:
			if misses++; misses == applyMisses {
				return false, errHung
			}
			d.delay(live, try, 0, "apply: no answer within "+applyTime.String())
		case status.Code(err) == codes.InvalidArgument:
			err = d.refused(&poison, nil, said("apply", err).Error())
			if err != nil || poison.given {
				return err == nil, err
			}
		case err != nil:
			d.delay(live, try, 0, said("apply", err).Error())
		default:
			again, err := d.outcome(live, try, &poison, response)
			if err != nil || !again {
				return err == nil, err
			}
		}
		if live.Err() != nil {
			return false, nil
		}
	}
}

func (d *delivery) apply(ctx context.Context, raw []byte) (*wire.ApplyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	return d.inc.client.Sink.Apply(ctx, &wire.ApplyRequest{Codec: wire.CodecProto, Batch: raw})
}

// outcome acts on an answer. again asks to hand over the same batch once more.
func (d *delivery) outcome(live context.Context, try int, p *poisoned, r *wire.ApplyResponse) (again bool, err error) {
	switch {
	case r.GetAcknowledged() != nil:
		mark, err := watermark(r.GetAcknowledged().GetWatermark())
		if err != nil {
			return false, err
		}
		if mark.Epoch != p.batch.Epoch || mark.Sequence < p.batch.Last {
			return false, protocolError("it acknowledges %v/%d for the batch %v/%d..%d",
				mark.Epoch, mark.Sequence, p.batch.Epoch, p.batch.First, p.batch.Last)
		}
		return false, d.acknowledge(p.batch)
	case r.GetRetryAfter() != nil:
		retry := r.GetRetryAfter()
		d.delay(live, try, time.Duration(retry.GetDelay()), bounded(retry.GetReason(), 1024))
		return true, nil
	case r.GetRejected() != nil:
		err := d.refused(p, r.GetRejected().GetSequences(), bounded(r.GetRejected().GetReason(), 1024))
		return !p.given, err
	case r.GetRewind() != nil:
		return false, d.rewind(r.GetRewind().GetWatermark())
	}
	return false, protocolError("it answers a batch with nothing")
}

// acknowledge moves on.
func (d *delivery) acknowledge(b journal.Batch) error {
	mark := sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}
	if err := d.feed.Ack(mark); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	d.rewinds = 0
	d.proved.Store(true)
	d.waits.Store(false)
	d.board.acknowledged(mark)
	if d.board.state() == StateDegraded {
		d.board.enter(StateRunning, Event{})
	}
	return nil
}

// delay waits as long as the sink asks, or ever longer when it does not say.
func (d *delivery) delay(live context.Context, try int, asked time.Duration, why string) {
	d.waits.Store(true)
	d.board.degrade(why)
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
	d.board.enter(d.board.state(), Event{
		Error:  fmt.Sprintf("the sink is behind: rewind to %v/%d", mark.Epoch, mark.Sequence),
		Sought: d.feed.Seek([]sdk.Watermark{mark}),
	})
	return nil
}
