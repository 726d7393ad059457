package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// replaceTime is what plugins that a changed configuration ends may take for it.
const replaceTime = 10 * time.Second

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
// anew those whose Spec changed; all others are left alone. It waits for those it ends, which keep what the journal holds
// for them. While Run does not run, it only remembers. An error of a Spec changes nothing.
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
		retire(gone)
	}
	return s.replace(next)
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

// retire ends workers, all at the same time, and waits for them.
func retire(gone []*worker) {
	budget, cancel := context.WithTimeout(context.Background(), replaceTime)
	defer cancel()
	var group sync.WaitGroup
	for _, w := range gone {
		w.stop(budget)
		group.Go(func() { <-w.ended })
	}
	group.Wait()
}

// replace makes next the workers, and starts those that were not among them.
func (s *Supervisor) replace(next []*worker) error {
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
	for _, w := range next {
		if !had[w] && s.hire != nil {
			s.hire(w)
		}
	}
	return nil
}
