package sdk

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// phase is how far the host has come with a plugin. It only grows.
type phase int

const (
	phaseNew phase = iota
	phaseConfiguring
	phaseReady
	phaseFailed // Configure returned an error: this process will never be ready
	phaseDrained
)

// lifecycle refuses calls in the wrong order, so that a plugin need not, and knows when none runs any more.
type lifecycle struct {
	ending context.Context // done once draining began
	end    context.CancelFunc

	mu    sync.Mutex
	phase phase
	calls int           // that run now
	idle  chan struct{} // non-nil: closed by the last call that leaves
	due   bool          // draining began on a configured plugin, whose own Drain was not called yet
}

func newLifecycle() *lifecycle {
	l := &lifecycle{}
	l.ending, l.end = context.WithCancel(context.Background())
	return l
}

// configure begins Configure; the function returned ends it.
func (l *lifecycle) configure() (done func(error), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != phaseNew {
		return nil, status.Error(codes.FailedPrecondition, "configure: called before, or after a drain; start the plugin anew")
	}
	l.phase = phaseConfiguring
	l.calls++
	return func(err error) {
		l.mu.Lock()
		if l.phase == phaseConfiguring {
			l.phase = phaseReady
			if err != nil {
				l.phase = phaseFailed
			}
		}
		l.mu.Unlock()
		l.leave()
	}, nil
}

// enter begins a call that needs a configured plugin. Its context also ends when draining begins. The caller calls leave
// when the error is nil.
func (l *lifecycle) enter(ctx context.Context, what string, early bool) (_ context.Context, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.phase == phaseDrained:
		return nil, nil, status.Error(codes.FailedPrecondition, what+": the plugin is drained")
	case l.phase != phaseReady && !early:
		return nil, nil, status.Error(codes.FailedPrecondition, what+": the plugin is not configured")
	}
	l.calls++
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(l.ending, cancel)
	return ctx, func() { unhook(); cancel(); l.leave() }, nil
}

func (l *lifecycle) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls--
	if l.calls == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// drain refuses all further calls and waits for those that run. due is whether the plugin's own Drain is to be called now:
// not if it was never configured, and not twice.
func (l *lifecycle) drain(ctx context.Context) (due bool, err error) {
	if idle := l.close(); idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return false, status.FromContextError(ctx.Err()).Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	due, l.due = l.due, false
	return due, nil
}

// close refuses further calls and ends the contexts of those that run. It returns what is closed when none does; nil if
// none does now.
func (l *lifecycle) close() (idle <-chan struct{}) {
	defer l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != phaseDrained {
		l.due = l.phase == phaseReady
		l.phase = phaseDrained
	}
	if l.calls > 0 && l.idle == nil {
		l.idle = make(chan struct{})
	}
	return l.idle
}
