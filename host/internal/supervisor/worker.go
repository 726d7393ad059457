package supervisor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// lookAgain is how often a blocked plugin's file is looked at.
const lookAgain = 5 * time.Second

// life is an incarnation as its worker sees it: [instance.Instance].
type life interface {
	PID() int
	Done() <-chan struct{}
	Exit() process.Exit // valid once Done is closed
	Words() string
	Tail(n int) []string
	Quit()
	Kill()
	Close() error
}

// worker looks after one plugin.
type worker struct {
	spec    Spec
	o       *Options
	uid     uint32          // of its own, set before run
	groups  *group.Parent   // set before run; nil: there are none
	starts  chan struct{}   // holds as many as may start at once; nil: any number
	earlier []*worker       // start before it; nil once it has waited for them
	before  <-chan struct{} // closed when the worker in whose place it is has ended; nil: there was none
	board   *board
	history *history
	demand  *demand
	again   chan struct{} // of capacity 1: start anew, forgetting all failures
	ended   chan struct{} // closed when run has returned; whoever calls run closes it
	door    *door         // of run; nil: there is none, or not now
	// start makes an incarnation. Tests replace it.
	start func(ctx context.Context, thread *process.Thread) (*incarnation, error)

	stopping chan struct{} // closed by stop
	mu       sync.Mutex
	budget   context.Context // of stop; valid once stopping is closed
	inc      *incarnation    // while there is one
	client   *sdk.Client     // while it is configured
	isStore  bool            // client answers queries
}

func newWorker(spec Spec, o *Options) *worker {
	w := &worker{
		spec: spec, o: o, board: newBoard(o), history: new(history), demand: newDemand(),
		again: make(chan struct{}, 1), ended: make(chan struct{}), stopping: make(chan struct{}),
	}
	w.start = w.launch
	state := StateStopped
	if spec.Disabled {
		state = StateDisabled
	}
	w.board.update(func(s *wire.PluginStatus) {
		s.Name, s.Path, s.Kinds, s.State, s.Since = spec.Name, spec.Path, spec.Kinds, state, time.Now().UnixNano()
	})
	return w
}

// stop asks run to return, within a budget. Only the first call counts.
func (w *worker) stop(budget context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !closed(w.stopping) {
		w.budget = budget
		close(w.stopping)
	}
}

func (w *worker) deadline() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.budget
}

// run keeps the plugin alive until stopping is closed or ctx is done.
func (w *worker) run(ctx context.Context, thread *process.Thread, stopping <-chan struct{}, budget func() context.Context) {
	defer w.board.enter(StateStopped, Event{})
	defer w.shutDoor()
	var back backoff
	for ctx.Err() == nil && !closed(stopping) && w.awaitDemand(ctx, stopping) {
		seen := executable.Look(w.spec.Path)
		end := w.once(ctx, thread, stopping, budget)
		switch {
		case ctx.Err() != nil, closed(stopping), errors.Is(end.err, errIdle):
		case errors.Is(end.err, errAgain), w.failed(ctx, stopping, &back, seen, end):
			back = backoff{}
		}
	}
}

// failed waits until it is time for another start. forget says that what failed before is of no more interest.
func (w *worker) failed(ctx context.Context, stopping <-chan struct{}, back *backoff, seen executable.Identity, end ending) (forget bool) {
	w.shutDoor() // nobody would answer
	w.showBacklog()
	told := Event{Error: end.err.Error(), Tail: end.tail}
	now := time.Now()
	delay, loop := back.failed(now, end, w.longest(), w.o.Jitter())
	parked := back.row >= parkAfter && w.longest() == otherDelay
	if parked {
		told.Error = fmt.Sprintf("it failed %d times and is not tried again; the last time: %s", back.row, told.Error)
	}
	if parked || permanent(end.err) {
		w.board.enter(StateBlocked, told)
		w.awaitChange(ctx, stopping, seen, errors.Is(end.err, errFull))
		return true
	}
	state := StateBackoff
	if loop {
		state = StateCrashLoop
	}
	w.history.restarted(now)
	w.board.enter(state, told)
	w.board.update(func(s *wire.PluginStatus) {
		s.Restarts++
		s.NextStart = now.Add(delay).UnixNano()
	})
	return w.pause(ctx, stopping, delay)
}

// showBacklog has status tell what waits for a sink, or what may be one, that was never configured.
func (w *worker) showBacklog() {
	if kinds := w.board.kinds(); len(kinds) > 0 && !slices.Contains(kinds, kindSink) {
		return
	}
	feed, err := w.o.Feed(w.spec.Name)
	if err != nil {
		w.o.Log.Warn("what waits for a plugin cannot be told", "plugin", w.spec.Name, "error", err)
		return
	}
	w.board.setFeed(feed)
}

// longest is the longest delay between two starts.
func (w *worker) longest() time.Duration {
	if kinds := w.board.kinds(); len(kinds) == 0 || slices.Contains(kinds, kindSink) {
		return sinkDelay
	}
	return otherDelay
}

// pause waits, and says whether it was told not to.
func (w *worker) pause(ctx context.Context, stopping <-chan struct{}, d time.Duration) (again bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.again:
		return true
	case <-timer.C:
	case <-ctx.Done():
	case <-stopping:
	}
	return false
}

// ending is how an incarnation ended; err is nil when it was stopped.
type ending struct {
	err      error
	starting time.Duration // until it was configured
	ran      time.Duration // since then; 0: it never was
	proved   bool          // it did something useful
	tail     []string
}

// once is one incarnation from start to end.
func (w *worker) once(ctx context.Context, thread *process.Thread, stopping <-chan struct{}, budget func() context.Context) ending {
	w.board.enter(StateStarting, Event{})
	starting, cancel := untilStopping(ctx, stopping)
	defer cancel()
	begun := time.Now()
	inc, err := w.begin(starting, thread)
	if err != nil {
		w.history.add(&wire.Incarnation{Started: begun.UnixNano(), Ended: time.Now().UnixNano(), Reason: bounded(err.Error(), 1024)})
		return ending{err: err}
	}
	w.enter(inc)
	defer w.gone()
	w.board.enter(StateConfiguring, Event{})
	r := &running{worker: w, inc: inc}
	end := ending{err: r.configure(starting), starting: time.Since(begun)}
	if end.err == nil {
		configured := time.Now()
		end.err = r.serve(ctx, stopping, budget)
		end.ran, end.proved = time.Since(configured), r.proved.Load()
	}
	end = w.bury(inc, end)
	w.history.add(inc.obituary(begun, end.err))
	return end
}

// begin starts an incarnation when it is its turn.
func (w *worker) begin(ctx context.Context, thread *process.Thread) (*incarnation, error) {
	w.awaitTurn(ctx)
	if w.starts != nil {
		select {
		case w.starts <- struct{}{}:
			defer func() { <-w.starts }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return w.start(ctx, thread)
}

// bury ends the process and learns from it what it can.
func (w *worker) bury(inc *incarnation, end ending) ending {
	dead := closed(inc.Done())
	if end.err != nil && !dead && instance.Gone(end.err) {
		// The connection broke first; the process is about to tell why.
		dead = wait(inc.Done(), time.Second)
	}
	if err := inc.Close(); err != nil {
		end.err = errors.Join(end.err, err)
	}
	if end.err == nil || errors.Is(end.err, errIdle) || errors.Is(end.err, errAgain) {
		return end
	}
	end.tail = inc.Tail(20)
	switch {
	case errors.Is(end.err, errHung):
		end.err = fmt.Errorf("%w: %s", errHung, inc.Words())
	case dead && !permanent(end.err):
		end.err = errors.New(inc.Words())
	}
	return end
}

// enter shows the incarnation.
func (w *worker) enter(inc *incarnation) {
	w.mu.Lock()
	w.inc = inc
	w.mu.Unlock()
	w.board.update(func(s *wire.PluginStatus) {
		s.Pid, s.Uid, s.Sandbox, s.Sha256 = uint32(inc.PID()), inc.uid, inc.sandbox, hex.EncodeToString(inc.sha256[:])
	})
}

func (w *worker) gone() {
	w.mu.Lock()
	w.inc, w.client, w.isStore = nil, nil, false
	w.mu.Unlock()
	w.board.update(func(s *wire.PluginStatus) { s.Pid = 0 })
}

// ready lets others call the incarnation.
func (w *worker) ready(c *sdk.Client, store bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.client, w.isStore = c, store
}

// callable is the client of a configured plugin, or nil.
func (w *worker) callable() *sdk.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.client
}

// queryable is the client of a running store, or nil.
func (w *worker) queryable() *sdk.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.isStore {
		return nil
	}
	return w.client
}

// current is the incarnation, or nil.
func (w *worker) current() *incarnation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inc
}

// permanent says whether trying again with the same file, configuration and disk is useless.
func permanent(err error) bool {
	return errors.Is(err, executable.ErrRefused) || errors.Is(err, instance.ErrProtocol) || errors.Is(err, sdk.ErrConfig) ||
		errors.Is(err, errFull)
}

// awaitChange returns when the plugin's file is not what it was or, if it was the disk, when there is room again.
func (w *worker) awaitChange(ctx context.Context, stopping <-chan struct{}, seen executable.Identity, full bool) {
	for executable.Look(w.spec.Path) == seen && ctx.Err() == nil && !closed(stopping) {
		if w.pause(ctx, stopping, lookAgain) {
			return
		}
		if d := w.disk(); full && d != nil {
			if _, err := d.check(ctx); err == nil {
				return
			}
		}
	}
}

// untilStopping is a context that ends with stopping, too.
func untilStopping(ctx context.Context, stopping <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pause waits for a time, or until there is no more reason to.
func pause(ctx context.Context, stopping <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-stopping:
	}
}

// wait says whether c was closed within d.
func wait(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
