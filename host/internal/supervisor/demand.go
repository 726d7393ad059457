package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

// ErrUnavailable is wrapped by Use's error when the plugin cannot be called: it is unknown, disabled, blocked, or not up
// before the context ended.
var ErrUnavailable = errors.New("plugin is not available")

// defaultIdleAfter is how long an on-demand plugin that nobody uses keeps running.
const defaultIdleAfter = 5 * time.Minute

// demand counts who uses a plugin now.
type demand struct {
	mu    sync.Mutex
	users int
	left  time.Time     // when the last one left
	wake  chan struct{} // of capacity 1: there is a user
}

func newDemand() *demand { return &demand{wake: make(chan struct{}, 1)} }

func (d *demand) enter() {
	d.mu.Lock()
	d.users++
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *demand) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users--
	d.left = time.Now()
}

// idle says for how long nobody has used it, at most since begun.
func (d *demand) idle(begun time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users > 0 {
		return 0
	}
	if d.left.After(begun) {
		begun = d.left
	}
	return time.Since(begun)
}

func (d *demand) wanted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.users > 0
}

// Use calls the named plugin: call gets its client, and a context that is ctx. An on-demand plugin is started if it does
// not run, and is not stopped as idle before call returns. Use waits until the plugin is up, as long as ctx allows. The
// client may fail at any moment, when the plugin does. Errors of call are returned as they are.
func (s *Supervisor) Use(ctx context.Context, name string, call func(context.Context, *sdk.Client) error) error {
	w := s.find(name)
	if w == nil {
		return fmt.Errorf("%w: no plugin is called %.40q", ErrUnavailable, name)
	}
	w.demand.enter()
	defer w.demand.leave()
	client, err := w.await(ctx)
	if err != nil {
		return err
	}
	return call(ctx, client)
}

// await is the client of the plugin once it is configured.
func (w *worker) await(ctx context.Context) (*sdk.Client, error) {
	for {
		changed := w.board.changing() // before looking: no change is missed
		if client := w.callable(); client != nil {
			return client, nil
		}
		state := w.board.state()
		if state == StateBlocked || state == StateDisabled || closed(w.ended) {
			return nil, w.unavailable(state)
		}
		select {
		case <-changed:
		case <-w.ended:
		case <-ctx.Done():
			return nil, errors.Join(w.unavailable(w.board.state()), ctx.Err())
		}
	}
}

func (w *worker) unavailable(state string) error {
	text := w.spec.Name + " is " + state
	if last := w.board.lastError(); last != "" {
		text += ": " + last
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, text)
}

// touch says that it is used at this moment.
func (d *demand) touch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = time.Now()
}

// awaitDemand returns true when the plugin should run, false when there is no more reason to wait.
func (w *worker) awaitDemand(ctx context.Context, stopping <-chan struct{}) bool {
	for w.unasked() {
		visited, leave := w.attend(ctx)
		w.board.enter(StateIdle, Event{}) // once its door is open
		called := false
		select {
		case <-w.demand.wake:
		case <-visited:
			called = true
		case <-w.again:
			called = true
		case <-ctx.Done():
		case <-stopping:
		}
		leave()
		if called || ctx.Err() != nil || closed(stopping) {
			return called
		}
	}
	return true
}

// unasked says that it should not run now: nobody uses what runs only while somebody does. One of which nothing is known yet
// is started to tell what it is: records wait for whatever may be a sink, and a sink is asked all the time.
func (w *worker) unasked() bool {
	kinds := w.board.kinds()
	return w.spec.OnDemand && len(kinds) > 0 && !slices.Contains(kinds, kindSink) && !w.demand.wanted()
}

// attend opens the plugin's door, if it is to have one, and closes visited when somebody stands before it. Where there can
// be none a start is to tell why. leave ends it.
func (w *worker) attend(ctx context.Context) (visited <-chan struct{}, leave func()) {
	if w.spec.Listen == "" {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	seen, done := make(chan struct{}), make(chan struct{})
	err := w.openDoor(ctx)
	go func() {
		defer close(done)
		if err != nil || w.door.awaitVisitor(ctx) == nil {
			close(seen)
		}
	}()
	return seen, func() { cancel(); <-done }
}

// openDoor makes the socket that the plugin is to inherit. It stays until the plugin fails or ends for good: between two
// incarnations that did nothing wrong nobody is turned away.
func (w *worker) openDoor(ctx context.Context) (err error) {
	if w.door == nil {
		w.door, err = openDoor(ctx, w.spec.Listen)
	}
	return err
}

func (w *worker) shutDoor() {
	if w.door != nil {
		w.door.close()
		w.door = nil
	}
}
