package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Deadlines of the calls to a plugin, and how its health is watched.
const (
	describeTime  = 2 * time.Second
	configureTime = 10 * time.Second
	drainTime     = 5 * time.Second
	healthTime    = 3 * time.Second
	healthEvery   = 10 * time.Second
	healthMisses  = 3
	quitTime      = time.Second // to write stacks
)

// Kinds of plugin.
const (
	kindSink     = "sink"
	kindStore    = "store"
	kindLocator  = "locator"
	kindVerdicts = "verdicts"
)

// maxWatermarks bounds what a sink may report.
const maxWatermarks = 64

// running is an incarnation being looked after.
type running struct {
	*worker
	inc    *incarnation
	kinds  []string
	feed   Feed
	proved atomic.Bool // a batch was acknowledged, or it was healthy
	waits  atomic.Bool // its sink asked to wait, or gives odd answers
}

// configure makes the plugin ready. Only then is it up.
func (r *running) configure(ctx context.Context) error {
	if err := r.describe(ctx); err != nil {
		return err
	}
	watermarks, err := r.settings(ctx)
	if err != nil {
		return err
	}
	var sought Event
	if slices.Contains(r.kinds, kindSink) {
		r.inc.client.Sink = trackedSink{r.inc.client.Sink, &r.inc.flight}
		if r.feed, err = r.o.Feed(r.spec.Name); err != nil {
			return err
		}
		sought.Sought = r.feed.Seek(watermarks)
		r.board.setFeed(r.feed)
	}
	r.ready(r.inc.client, slices.Contains(r.kinds, kindStore))
	r.board.enter(StateRunning, sought)
	return nil
}

// describe asks who it is.
func (r *running) describe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	d, err := r.inc.client.Plugin.Describe(ctx, &wire.DescribeRequest{Wire: wire.Version})
	if err != nil {
		return said("describe", err)
	}
	if d.GetWire() != wire.Version {
		return protocolError("it speaks wire version %d, this host %d", d.GetWire(), wire.Version)
	}
	if len(d.GetKinds()) == 0 || len(d.GetKinds()) > 8 {
		return protocolError("it is of %d kinds, want 1 to 8", len(d.GetKinds()))
	}
	for _, kind := range d.GetKinds() {
		r.kinds = append(r.kinds, bounded(kind, 32))
	}
	if slices.Contains(r.kinds, kindStore) && !slices.Contains(r.kinds, kindSink) {
		return protocolError("a store is a sink too")
	}
	r.board.update(func(s *wire.PluginStatus) { s.Kinds, s.Version = r.kinds, bounded(d.GetVersion(), 64) })
	return nil
}

// settings configures the plugin and returns what it holds.
func (r *running) settings(ctx context.Context) ([]sdk.Watermark, error) {
	ctx, cancel := context.WithTimeout(ctx, configureTime)
	defer cancel()
	response, err := r.inc.client.Plugin.Configure(ctx, configuration(r.o, r.spec, false, r.inc.hostSocket))
	if err != nil {
		return nil, said("configure", err)
	}
	return watermarks(response.GetWatermarks())
}

// configuration is the request that the spec means.
func configuration(o *Options, spec Spec, readOnly bool, hostSocket string) *wire.ConfigureRequest {
	config := string(spec.Config)
	if !json.Valid(spec.Config) {
		config = "{}"
	}
	return &wire.ConfigureRequest{
		HostId: o.HostID[:], BootId: o.BootID[:], Epoch: o.Epoch[:],
		Config: config, Directory: spec.Directory, ReadOnly: readOnly, HostSocket: hostSocket,
	}
}

// watermarks checks and converts.
func watermarks(from []*wire.Watermark) ([]sdk.Watermark, error) {
	if len(from) > maxWatermarks {
		return nil, protocolError("it reports %d watermarks, want at most %d", len(from), maxWatermarks)
	}
	var all []sdk.Watermark
	for _, w := range from {
		mark, err := watermark(w)
		if err != nil {
			return nil, err
		}
		all = append(all, mark)
	}
	return all, nil
}

func watermark(w *wire.Watermark) (sdk.Watermark, error) {
	mark := sdk.Watermark{Sequence: w.GetSequence()}
	if len(w.GetEpoch()) != len(mark.Epoch) {
		return mark, protocolError("it reports an epoch of %d bytes", len(w.GetEpoch()))
	}
	copy(mark.Epoch[:], w.GetEpoch())
	return mark, nil
}

// serve looks after the plugin until it fails, and then says how, or is stopped, and then returns nil. errIdle and
// errAgain say that it was stopped for a reason of its worker's.
func (r *running) serve(ctx context.Context, stopping <-chan struct{}, budget func() context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	var guarded chan error // nil: nothing is
	if g := r.inc.guard; g != nil {
		guarded = make(chan error, 1)
		go func() { guarded <- g.run(inner) }()
		defer func() { <-guarded }()
	}
	defer cancel()
	leaving := make(chan struct{})
	d := newDelivery(r)
	go d.loop(inner, leaving)
	err := r.watch(ctx, stopping, d, guarded)
	close(leaving)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		r.stop(budget(), d, true)
	case errors.Is(err, errIdle), errors.Is(err, errAgain):
		short, done := context.WithTimeout(ctx, drainTime)
		r.stop(short, d, false)
		done()
	}
	cancel()
	if !closed(d.done) {
		r.inc.Kill() // whatever it is asked at this moment ends
		<-d.done
	}
	return err
}

// watch returns nil when there is a reason to stop that is not the plugin's.
func (r *running) watch(ctx context.Context, stopping <-chan struct{}, d *delivery, guarded chan error) error {
	ticker := time.NewTicker(healthEvery)
	defer ticker.Stop()
	begun := time.Now()
	pulse := pulse{slept: slept()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stopping:
			return nil
		case <-r.again:
			return errAgain
		case <-r.inc.Done():
			return errEnded
		case err := <-guarded:
			guarded <- nil // whoever waits for it
			return err
		case <-d.done:
			if errors.Is(d.err, errHung) {
				r.dump()
			}
			return d.err
		case <-ticker.C:
			if pulse.stopped(r.healthy(ctx)) {
				r.dump()
				return errHung
			}
			if r.idle(begun) {
				return errIdle
			}
		}
	}
}

// idle says whether it is to run only while somebody uses it, and nobody has for too long.
func (r *running) idle(begun time.Time) bool {
	if !r.spec.OnDemand || slices.Contains(r.kinds, kindSink) {
		return false
	}
	if r.door != nil && r.door.busy() {
		r.demand.touch()
	}
	return r.demand.idle(begun) >= r.spec.idleAfter()
}

// Reasons for the end of an incarnation.
var (
	errEnded = errors.New("it ended")
	errHung  = errors.New("it does not answer")
	errIdle  = errors.New("nobody uses it")
	errAgain = errors.New("it is to be restarted")
)

// pulse counts the questions that went unanswered in a row.
type pulse struct {
	misses int
	slept  time.Duration
}

// stopped says whether these are too many. What was missed while the machine slept does not count.
func (p *pulse) stopped(answered bool) bool {
	now := slept()
	awake := now-p.slept < time.Second
	p.slept = now
	if answered || !awake {
		p.misses = 0
		return false
	}
	p.misses++
	return p.misses >= healthMisses
}

// slept is for how long the machine was suspended since it started.
func slept() time.Duration {
	var all, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(all.Nano() - awake.Nano())
}

// healthy asks, and enters degraded or running accordingly.
func (r *running) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	h, err := r.inc.client.Plugin.Health(ctx, &wire.HealthRequest{})
	if err != nil {
		return false
	}
	switch h.GetState() {
	case wire.HealthResponse_DEGRADED:
		r.board.degrade(bounded(h.GetText(), 1024))
	case wire.HealthResponse_OK:
		r.proved.Store(true)
		if r.waits.Load() {
			break
		}
		r.board.works()
		if r.board.state() == StateDegraded {
			r.board.enter(StateRunning, Event{})
		}
	}
	return true
}

// dump asks a hung plugin for its stacks, and kills it.
func (r *running) dump() {
	r.inc.Quit()
	wait(r.inc.Done(), quitTime)
	r.inc.Kill()
}

// exceptFor keeps a part of a budget back: at most d, and at most a fifth.
func exceptFor(budget context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := budget.Deadline()
	if !ok {
		return context.WithCancel(budget)
	}
	return context.WithDeadline(budget, deadline.Add(-min(d, time.Until(deadline)/5)))
}

// stop delivers what is left, if all is to be delivered, and drains.
func (r *running) stop(budget context.Context, d *delivery, all bool) {
	r.ready(nil, false) // no new questions: it will not be there for the answer
	r.board.enter(StateDraining, Event{})
	delivering, cancel := exceptFor(budget, time.Second)
	defer cancel()
	select {
	case <-d.done:
	case <-delivering.Done():
	case <-r.inc.Done():
	}
	if all && closed(d.done) && d.err == nil {
		d.rest(delivering)
	}
	ctx, cancelDrain := context.WithTimeout(budget, drainTime)
	defer cancelDrain()
	if _, err := r.inc.client.Plugin.Drain(ctx, &wire.DrainRequest{}); err != nil {
		r.board.enter(r.board.state(), Event{Error: said("drain", err).Error()})
	}
}
