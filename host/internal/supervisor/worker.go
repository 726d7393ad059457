package supervisor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
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
	Words() string
	Tail(n int) []string
	Quit()
	Kill()
	Close() error
}

// incarnation is a started plugin.
type incarnation struct {
	life
	client  *sdk.Client
	uid     uint32
	sha256  [32]byte
	sandbox []string
}

// worker looks after one plugin.
type worker struct {
	spec  Spec
	o     *Options
	uid   uint32 // of its own, set before run
	board *board
	// start makes an incarnation. Tests replace it.
	start func(ctx context.Context, thread *process.Thread) (*incarnation, error)

	mu    sync.Mutex
	store *sdk.Client // while a store is running
}

func newWorker(spec Spec, o *Options) *worker {
	w := &worker{spec: spec, o: o, board: &board{report: o.Report}}
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

// run keeps the plugin alive until stopping is closed or ctx is done.
func (w *worker) run(ctx context.Context, thread *process.Thread, stopping <-chan struct{}, budget func() context.Context) {
	defer w.board.enter(StateStopped, Event{})
	var back backoff
	for ctx.Err() == nil && !closed(stopping) {
		seen := executable.Look(w.spec.Path)
		end := w.once(ctx, thread, stopping, budget)
		if end.err == nil || ctx.Err() != nil || closed(stopping) {
			return
		}
		if permanent(end.err) {
			w.board.enter(StateBlocked, Event{Error: end.err.Error(), Tail: end.tail})
			w.awaitChange(ctx, stopping, seen)
			back = backoff{}
			continue
		}
		delay := back.failed(end.ran, end.proved, w.o.Jitter())
		w.board.enter(StateBackoff, Event{Error: end.err.Error(), Tail: end.tail})
		w.board.update(func(s *wire.PluginStatus) {
			s.Restarts++
			s.NextStart = time.Now().Add(delay).UnixNano()
		})
		pause(ctx, stopping, delay)
	}
}

// ending is how an incarnation ended; err is nil when it was stopped.
type ending struct {
	err    error
	ran    time.Duration // since it was configured; 0: it never was
	proved bool          // it did something useful
	tail   []string
}

// once is one incarnation from start to end.
func (w *worker) once(ctx context.Context, thread *process.Thread, stopping <-chan struct{}, budget func() context.Context) ending {
	w.board.enter(StateStarting, Event{})
	starting, cancel := untilStopping(ctx, stopping)
	defer cancel()
	inc, err := w.start(starting, thread)
	if err != nil {
		return ending{err: err}
	}
	defer w.gone()
	w.board.update(func(s *wire.PluginStatus) {
		s.Pid, s.Uid, s.Sandbox, s.Sha256 = uint32(inc.PID()), inc.uid, inc.sandbox, hex.EncodeToString(inc.sha256[:])
	})
	w.board.enter(StateConfiguring, Event{})
	r := &running{worker: w, inc: inc}
	end := ending{err: r.configure(starting)}
	if end.err == nil {
		begun := time.Now()
		end.err = r.serve(ctx, stopping, budget)
		end.ran, end.proved = time.Since(begun), r.proved.Load()
	}
	return w.bury(inc, end)
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
	if end.err != nil {
		end.tail = inc.Tail(20)
		switch {
		case errors.Is(end.err, errHung):
			end.err = fmt.Errorf("%w: %s", errHung, inc.Words())
		case dead && !permanent(end.err):
			end.err = errors.New(inc.Words())
		}
	}
	return end
}

func (w *worker) gone() {
	w.setStore(nil)
	w.board.update(func(s *wire.PluginStatus) { s.Pid = 0 })
}

func (w *worker) setStore(c *sdk.Client) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.store = c
}

// queryable is the client of a running store, or nil.
func (w *worker) queryable() *sdk.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.store
}

// permanent says whether trying again with the same file and configuration is useless.
func permanent(err error) bool {
	return errors.Is(err, executable.ErrRefused) || errors.Is(err, instance.ErrProtocol) || errors.Is(err, sdk.ErrConfig)
}

// awaitChange returns when the plugin's file is not what it was.
func (w *worker) awaitChange(ctx context.Context, stopping <-chan struct{}, seen executable.Identity) {
	for executable.Look(w.spec.Path) == seen && ctx.Err() == nil && !closed(stopping) {
		pause(ctx, stopping, lookAgain)
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
