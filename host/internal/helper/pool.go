package helper

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/picosnitch/picosnitch/host/internal/packages"
	"github.com/picosnitch/picosnitch/sdk"
)

// Pool starts helpers and bounds them.
type Pool struct {
	options Options
	slots   *slots
	starter *starter
	context context.Context // of all calls; ends with Close
	cancel  context.CancelCauseFunc

	mu        sync.Mutex
	closed    bool
	calls     sync.WaitGroup
	watchers  sync.WaitGroup
	processes map[*process]bool // not yet reaped
}

// New makes a Pool. The caller must be root, and call [Main] first of all in a process whose first argument is [Verb].
func New(o Options) (*Pool, error) {
	o.fill()
	s, err := newStarter()
	if err != nil {
		return nil, err
	}
	p := &Pool{options: o, slots: newSlots(o), starter: s, processes: map[*process]bool{}}
	p.context, p.cancel = context.WithCancelCause(context.Background())
	return p, nil
}

// Hash reads a whole file and says what it was. It waits for its turn and for the answer, the latter no longer than
// [Options.Timeout]. Its errors wrap those of this package, or fs.ErrInvalid for a request that makes no sense; the texts are
// fit for people.
func (p *Pool) Hash(ctx context.Context, r HashRequest) (HashAnswer, error) {
	if err := r.check(); err != nil {
		return HashAnswer{}, fmt.Errorf("hash as uid %d: %w", r.UID, err)
	}
	o := order{UID: r.UID, GID: r.GID, Hash: &hashOrder{
		File: r.File != nil, PID: r.PID, Path: []byte(r.Path), MaxBytes: r.MaxBytes,
	}}
	answer, err := p.ask(ctx, o, r.File)
	if err == nil && answer.Hash == nil {
		err = fmt.Errorf("%w: %s", answer.Problem.err(), sdk.EscapeString(answer.Error))
	}
	if err != nil {
		return HashAnswer{}, fmt.Errorf("hash as uid %d: %w", r.UID, err)
	}
	return *answer.Hash, nil
}

// Packages tells which package owns a file, see [packages.Find]. It waits as Hash does. With an error that wraps none of this
// package's the answer still holds what could be read.
func (p *Pool) Packages(ctx context.Context, r PackagesRequest) (packages.Owner, error) {
	if !plainPath(r.Path) {
		return packages.Owner{}, fmt.Errorf("find the owner of a file: %w", packages.ErrPath)
	}
	o := order{
		UID: p.options.PackagesUID, GID: p.options.PackagesGID,
		Packages: &packagesOrder{Path: []byte(r.Path), Options: p.options.Packages},
	}
	o.Packages.Options.MaxBytes = r.MaxBytes
	answer, err := p.ask(ctx, o, nil)
	switch {
	case err != nil:
		return packages.Owner{}, fmt.Errorf("find the owner of a file: %w", err)
	case answer.Owner == nil:
		return packages.Owner{}, fmt.Errorf("find the owner of a file: %w: %s", answer.Problem.err(), sdk.EscapeString(answer.Error))
	case answer.Error != "":
		return answer.Owner.owner(), fmt.Errorf("find the owner of a file: %s", sdk.EscapeString(answer.Error))
	}
	return answer.Owner.owner(), nil
}

// Stats gives the counts of now.
func (p *Pool) Stats() Stats { return p.slots.snapshot() }

// Close ends all calls and helpers, and waits for them until ctx ends. An error tells of helpers that the kernel holds; they
// end when what they wait for does.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.mu.Unlock()
	if again {
		return nil
	}
	p.slots.close()
	p.cancel(ErrClosed)
	p.calls.Wait() // each takes no longer than Options.Grace from here
	ended := make(chan struct{})
	go func() {
		p.watchers.Wait()
		close(ended)
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = p.leave(ctx)
		<-ended
	}
	p.starter.close()
	return err
}

// leave lets the watchers of helpers that do not end go.
func (p *Pool) leave(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for child := range p.processes {
		child.forget()
	}
	if len(p.processes) == 0 {
		return nil
	}
	return fmt.Errorf("end helpers: %d wait for file systems that do not answer: %w", len(p.processes), context.Cause(ctx))
}

// enter counts a call, unless the pool is closed.
func (p *Pool) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.calls.Add(1)
	return nil
}

// adopt watches a helper until its end, which gives back its place.
func (p *Pool) adopt(child *process, t *ticket) {
	p.mu.Lock()
	p.processes[child] = true
	p.mu.Unlock()
	p.watchers.Go(func() {
		child.watch(t.end)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.processes, child)
	})
}

// cause makes an ended context one of our errors.
func cause(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrTimeout, context.Cause(ctx))
}
