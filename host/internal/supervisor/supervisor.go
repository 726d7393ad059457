package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Supervisor looks after plugins. Its methods may be called from any goroutine.
type Supervisor struct {
	o       Options
	workers []*worker
	ended   chan struct{} // closed when Run returns

	mu       sync.Mutex
	running  bool
	stopping chan struct{} // closed by Stop
	budget   context.Context
}

// New prepares plugins. Nothing is started before Run. Errors are those of Options and Specs that contradict themselves; a
// plugin whose file is missing or refused is shown as blocked instead.
func New(o Options, specs []Spec) (*Supervisor, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Supervisor{o: o, ended: make(chan struct{}), stopping: make(chan struct{}), budget: context.Background()}
	seen := map[string]bool{}
	for _, spec := range specs {
		if err := spec.check(); err != nil {
			return nil, fmt.Errorf("plugin %.40q: %w", spec.Name, err)
		}
		if seen[spec.Name] {
			return nil, fmt.Errorf("plugin %s: named twice", spec.Name)
		}
		seen[spec.Name] = true
		s.workers = append(s.workers, newWorker(spec, &s.o))
	}
	return s, nil
}

// fill sets defaults.
func (o *Options) fill() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
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

// check finds what cannot be meant.
func (s Spec) check() error {
	switch {
	case !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`).MatchString(s.Name):
		return errors.New("a name is 1 to 32 lower case letters, digits, - and _")
	case s.AsOwner && s.Owner.UID == 0:
		return errors.New("a plugin never runs as root")
	case !filepath.IsAbs(s.Directory):
		return fmt.Errorf("directory %q is not absolute", s.Directory)
	}
	for path, mode := range s.Paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || mode != "ro" && mode != "rw" {
			return fmt.Errorf(`path %q: %q: want an absolute path and "ro" or "rw"`, path, mode)
		}
		switch top := strings.SplitN(path, "/", 3)[1]; {
		case top == "proc", top == "sys", path == "/", path == "/dev", path == "/run":
			return fmt.Errorf("path %q is never granted: name what lies below it", path)
		}
	}
	return nil
}

// Run starts all plugins and looks after them until Stop has stopped them or ctx is done, which kills them. It needs root
// and is called once.
func (s *Supervisor) Run(ctx context.Context) error {
	s.mu.Lock()
	again := s.running
	s.running = true
	s.mu.Unlock()
	if again {
		return errors.New("supervisor: Run was called twice")
	}
	defer close(s.ended)
	if err := s.prepare(); err != nil {
		return err
	}
	thread := process.NewThread()
	defer thread.Close() // after all plugins: they die with it
	var group sync.WaitGroup
	defer group.Wait()
	for _, w := range s.workers {
		if !w.spec.Disabled {
			group.Go(func() { w.run(ctx, thread, s.stopping, s.deadline) })
		}
	}
	select {
	case <-ctx.Done():
	case <-s.stopping:
	}
	return nil
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
	var names []string
	for _, w := range s.workers {
		names = append(names, w.spec.Name)
	}
	uids, err := s.o.UIDs.assign(names)
	if err != nil {
		return err
	}
	for _, w := range s.workers {
		w.uid = uids[w.spec.Name]
	}
	return nil
}

func (o *Options) socketDir(name string) string { return filepath.Join(o.RunDir, "plugins", name) }

// Stop hands sinks what the journal holds, as far as ctx allows, drains and ends all plugins, and waits until Run has
// returned. The caller appends to the journal before, not after. An error is ctx's; the plugins are ended all the same.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.mu.Lock()
	select {
	case <-s.stopping:
	default:
		s.budget = ctx
		close(s.stopping)
	}
	running := s.running
	s.mu.Unlock()
	if !running {
		return nil
	}
	<-s.ended
	return ctx.Err()
}

// deadline is the budget that Stop gave; valid once stopping is closed.
func (s *Supervisor) deadline() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.budget
}

// Status tells of all plugins, in the order of their Specs. The caller owns the answer.
func (s *Supervisor) Status() []*wire.PluginStatus {
	var all []*wire.PluginStatus
	for _, w := range s.workers {
		all = append(all, w.board.snapshot())
	}
	return all
}
