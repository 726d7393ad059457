package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Supervisor looks after plugins. Its methods may be called from any goroutine.
type Supervisor struct {
	o      Options
	ended  chan struct{} // closed when Run returns
	starts chan struct{} // holds as many starts as may be under way at once

	crew sync.WaitGroup // of Run's goroutines; it grows only while hire is set

	reconfiguring sync.Mutex                 // held while the workers are prepared, or exchanged
	uids          map[string]uint32          // of all plugins there ever were
	leaving       map[string]<-chan struct{} // closed when the last worker of that name that had to go has ended

	mu       sync.Mutex
	workers  []*worker
	running  bool          // Run was called
	over     bool          // Run starts nothing more
	stopping chan struct{} // closed by Stop
	hire     func(*worker) // starts a worker while Run runs; nil before and after
	groups   *group.Parent // while Run runs; nil: there are none
}

// maxStarts is how many plugins start at the same time: each hashes its file and makes keys.
const maxStarts = 4

// New prepares plugins. Nothing is started before Run. Errors are those of Options and Specs that contradict themselves; a
// plugin whose file is missing or refused is shown as blocked instead.
func New(o Options, specs []Spec) (*Supervisor, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if err := check(specs); err != nil {
		return nil, err
	}
	s := &Supervisor{
		o: o, ended: make(chan struct{}), stopping: make(chan struct{}), starts: make(chan struct{}, maxStarts),
		uids: map[string]uint32{}, leaving: map[string]<-chan struct{}{},
	}
	for _, spec := range specs {
		s.workers = append(s.workers, newWorker(spec, &s.o))
	}
	return s, nil
}

// check finds what cannot be meant.
func check(specs []Spec) error {
	seen := map[string]bool{}
	for _, spec := range specs {
		if err := spec.check(); err != nil {
			return fmt.Errorf("plugin %.40q: %w", spec.Name, err)
		}
		if seen[spec.Name] {
			return fmt.Errorf("plugin %s: named twice", spec.Name)
		}
		seen[spec.Name] = true
	}
	return nil
}

// fill sets defaults.
func (o *Options) fill() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Gone == nil {
		o.Gone = func(string) {}
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.UIDs == (UIDs{}) {
		o.UIDs = DefaultUIDs()
	}
	if o.HostBin == "" {
		path, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the host binary: %w", err)
		}
		o.HostBin = path
	}
	if !filepath.IsAbs(o.RunDir) {
		return fmt.Errorf("run directory %q is not absolute", o.RunDir)
	}
	return nil
}

// Run starts all plugins and looks after them until Stop has stopped them or ctx is done, which kills them. It needs root
// and is called once.
func (s *Supervisor) Run(ctx context.Context) error {
	if !s.claim() {
		return errors.New("supervisor: Run was called twice")
	}
	defer close(s.ended)
	thread := process.NewThread()
	defer thread.Close() // after all plugins: they die with it
	defer s.closeGroups()
	defer s.crew.Wait()
	err := s.begin(func(w *worker) {
		w.uid, w.groups, w.starts, w.earlier = s.uids[w.spec.Name], s.groups, s.starts, earlier(w, s.workers)
		s.crew.Go(func() {
			defer close(w.ended)
			if w.before != nil {
				<-w.before
			}
			if !w.spec.Disabled {
				w.run(ctx, thread, w.stopping, w.deadline)
			}
		})
	})
	if err == nil {
		select {
		case <-ctx.Done():
		case <-s.stopping:
		}
	}
	s.mu.Lock()
	s.hire, s.over = nil, true // before the wait for all that were started
	s.mu.Unlock()
	return err
}

// claim is true for the first caller.
func (s *Supervisor) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.running
	s.running = true
	return first
}

// begin prepares and starts all workers; no Reconfigure comes in between.
func (s *Supervisor) begin(hire func(*worker)) error {
	s.reconfiguring.Lock()
	defer s.reconfiguring.Unlock()
	if err := s.prepare(); err != nil {
		return err
	}
	s.open(hire)
	return nil
}

// open lets workers be started, and starts those that there are.
func (s *Supervisor) open(hire func(*worker)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if closed(s.stopping) {
		return
	}
	s.hire = hire
	for _, w := range s.workers {
		hire(w)
	}
}

// prepare removes what an earlier host left and chooses users.
func (s *Supervisor) prepare() error {
	dir := s.o.socketDir("")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove old sockets: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make socket directory: %w", err)
	}
	if err := s.assignUIDs(s.all()); err != nil {
		return err
	}
	groups, err := group.Open(s.o.RunDir)
	if err != nil {
		s.o.Log.Warn("plugins get no control groups", "error", err)
		groups = nil
	}
	s.mu.Lock()
	s.groups = groups
	s.mu.Unlock()
	return nil
}

func (s *Supervisor) closeGroups() {
	if s.groups == nil {
		return
	}
	if err := s.groups.Close(); err != nil {
		s.o.Log.Warn("remove control groups", "error", err)
	}
}

// assignUIDs gives a uid to those that have none yet.
func (s *Supervisor) assignUIDs(workers []*worker) error {
	var names []string
	for _, w := range workers {
		if _, has := s.uids[w.spec.Name]; !has {
			names = append(names, w.spec.Name)
		}
	}
	fresh, err := s.o.UIDs.assign(names, slices.Collect(maps.Values(s.uids))...)
	if err != nil {
		return err
	}
	maps.Copy(s.uids, fresh)
	return nil
}

func (o *Options) socketDir(name string) string { return filepath.Join(o.RunDir, "plugins", name) }

// Stop ends all plugins in the reverse of the order in which they start, sinks last: it hands those what the journal holds,
// as far as ctx allows, and drains them. It waits until Run has returned. The caller appends to the journal before, not
// after. An error is ctx's; the plugins are ended all the same.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !closed(s.stopping) {
		close(s.stopping)
	}
	running := s.running
	s.mu.Unlock()
	if !running {
		return nil
	}
	s.dismiss(ctx)
	<-s.ended
	return ctx.Err()
}

// Status tells of all plugins, in the order of their Specs. The caller owns the answer.
func (s *Supervisor) Status() []*wire.PluginStatus {
	var all []*wire.PluginStatus
	for _, w := range s.all() {
		status := w.board.snapshot()
		status.RecentRestarts = uint32(w.history.recent(time.Now()))
		all = append(all, status)
	}
	return all
}

// all are the workers that there are now.
func (s *Supervisor) all() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.workers)
}

// find is the worker of a plugin, or nil.
func (s *Supervisor) find(name string) *worker {
	for _, w := range s.all() {
		if w.spec.Name == name {
			return w
		}
	}
	return nil
}
