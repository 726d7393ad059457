package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// retireTime is what a plugin that a changed configuration ends may take for it.
const retireTime = 10 * time.Second

// ErrStopping is wrapped by what comes too late.
var ErrStopping = errors.New("the supervisor is stopping")

// unknown says that a name is nobody's.
func unknown(name string) error { return fmt.Errorf("no plugin is called %.40q", name) }

// Restart ends the named plugin, if it runs, and starts it at once; its earlier failures are forgotten. It does not wait
// for that. A disabled plugin is not started.
func (s *Supervisor) Restart(name string) error {
	w := s.find(name)
	switch {
	case w == nil:
		return unknown(name)
	case w.spec.Disabled:
		return fmt.Errorf("restart %s: it is disabled: enable it in config.json", name)
	}
	select {
	case w.again <- struct{}{}:
	default: // it is asked already
	}
	return nil
}

// Reconfigure makes specs the plugins that there are: it starts those that are new, ends those that are gone, and starts
// anew those whose Spec changed; all others are left alone. It does not wait for that: one that ends has ten seconds for
// what the journal holds for it, and only what takes its place waits for it; Options.Gone is told. While Run does not run,
// it only remembers. An error of a Spec changes nothing.
func (s *Supervisor) Reconfigure(specs []Spec) error {
	if err := check(specs); err != nil {
		return err
	}
	s.reconfiguring.Lock()
	defer s.reconfiguring.Unlock()
	next, gone := s.plan(specs)
	s.mu.Lock()
	live := s.hire != nil
	s.mu.Unlock()
	if live {
		if err := s.assignUIDs(next); err != nil {
			return err
		}
	}
	if err := s.replace(next, gone); err != nil || live {
		return err
	}
	for _, w := range gone {
		s.o.Gone(w.spec.Name)
	}
	return nil
}

// plan keeps the workers whose specs stay, makes new ones, and lists those that are to end. A new one inherits the history
// of its name.
func (s *Supervisor) plan(specs []Spec) (next, gone []*worker) {
	old := map[string]*worker{}
	for _, w := range s.all() {
		old[w.spec.Name] = w
	}
	for _, spec := range specs {
		w := old[spec.Name]
		if w != nil && w.spec.same(spec) {
			delete(old, spec.Name)
			next = append(next, w)
			continue
		}
		fresh := newWorker(spec, &s.o)
		if w != nil {
			fresh.history = w.history
		}
		next = append(next, fresh)
	}
	for _, w := range old {
		gone = append(gone, w)
	}
	return next, gone
}

// replace makes next the workers, starts those that were not among them, and ends those that are gone.
func (s *Supervisor) replace(next, gone []*worker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if closed(s.stopping) || s.over {
		return fmt.Errorf("reconfigure: %w", ErrStopping)
	}
	had := map[*worker]bool{}
	for _, w := range s.workers {
		had[w] = true
	}
	s.workers = next
	if s.hire == nil {
		return nil
	}
	for _, w := range gone {
		s.leaving[w.spec.Name] = w.ended
		s.crew.Go(func() { s.retire(w) })
	}
	for _, w := range next {
		if !had[w] {
			w.before = s.leaving[w.spec.Name]
			s.hire(w)
		}
	}
	return nil
}

// retire ends a worker, waits for it, and tells.
func (s *Supervisor) retire(w *worker) {
	budget, cancel := context.WithTimeout(context.Background(), retireTime)
	defer cancel()
	w.stop(budget)
	<-w.ended
	s.o.Gone(w.spec.Name)
}
