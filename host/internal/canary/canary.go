package canary

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// Options is how a [Canary] works. Zero durations mean the default; the functions must be there.
type Options struct {
	Every     time.Duration // between exchanges: 30 s
	ExecEvery time.Duration // between executions, at least: 5 min
	// Hooks are those at work; what they do not see is not judged.
	Hooks []capture.Hook
	// FileKey is how the kernel names the file behind a descriptor.
	FileKey func(fd int) (capture.FileKey, error)
	// Known are cookies of an earlier host's canary, whose last flows may still come.
	Known []uint64
	// Keep makes the cookies of new sockets durable, before anything but their connect moves.
	Keep func(cookies []uint64) error
	// Now reads the clocks.
	Now func() capture.Moment
}

// Counters tell what a canary did. They only grow.
type Counters struct {
	Exchanges  uint64 // judged
	Lost       uint64 // of them, those that did not come back
	Unjudged   uint64 // given up: something else was lost at the same time
	Executions uint64
	Flows      uint64 // taken out of windows
}

// Verdict is what became of an exchange.
type Verdict struct {
	Blind []string // what was not seen, in capture's words; empty if everything was
	// Since is the end of the last exchange that came back; of this one if it did.
	Since capture.Moment
}

// maxKnown bounds the cookies that are remembered, judgedBy how many windows an exchange may take to show.
const (
	maxKnown    = 256
	judgedBy    = 2
	maxFailures = 7 // delays grow to Every<<maxFailures
)

// Canary is the daemon's own small exchange.
type Canary struct {
	options Options
	words   map[sense]string

	// Touched by Tick alone.
	sockets *sockets
	program int // descriptor, -1 without one
	execDue int64

	mu       sync.Mutex
	ours     []uint64 // cookies, oldest first
	file     capture.FileKey
	trial    *trial // an exchange that is not judged yet
	due      int64  // boot ns
	urgent   bool
	good     capture.Moment
	failures int
	counters Counters
}

// New makes a canary that has not moved anything yet. Close it.
func New(o Options) *Canary {
	if o.Every == 0 {
		o.Every = 30 * time.Second
	}
	if o.ExecEvery == 0 {
		o.ExecEvery = 5 * time.Minute
	}
	return &Canary{options: o, words: words(o.Hooks), program: -1, ours: slices.Clone(o.Known), good: o.Now()}
}

// Close closes the sockets. Tick is not called any more.
func (c *Canary) Close() {
	if c.sockets != nil {
		c.sockets.close()
		c.sockets = nil
	}
	if c.program >= 0 {
		_ = unix.Close(c.program)
		c.program = -1
	}
}

// Again has the next Tick move an exchange, as soon as the one under way is judged, whatever the time: probes may have
// changed.
func (c *Canary) Again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgent = true
}

// Counters gives a copy of the totals.
func (c *Canary) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters
}

// Tick moves an exchange if one is due: to be called every few seconds. It takes less than a millisecond, and if the
// machine is in trouble some seconds at most. An error says that the exchange, or the execution, could not be had, which
// tells nothing about probes: later Ticks begin anew, ever more rarely; nothing is executed any more.
func (c *Canary) Tick() error {
	now := c.options.Now().Boot
	t, exec := c.begin(now)
	if t == nil {
		return nil
	}
	if err := c.move(t); err != nil {
		c.Close()
		c.abandon(now)
		return fmt.Errorf("canary: %w", err)
	}
	var err error
	if exec {
		err = c.execute(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.due = 0, now+int64(c.options.Every)
	t.finished = c.options.Now()
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	return nil
}

// begin gives the trial to run, or nil if it is not time.
func (c *Canary) begin(now int64) (t *trial, exec bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trial != nil || (now < c.due && !c.urgent) {
		return nil, false
	}
	exec = c.words[execs] != "" && (c.urgent || now >= c.execDue)
	c.urgent = false
	c.trial = &trial{got: map[place]sums{}}
	return c.trial, exec
}

// abandon forgets the trial under way.
func (c *Canary) abandon(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trial = nil
	c.due = now + int64(c.options.Every)<<c.failures
	c.failures = min(c.failures+1, maxFailures)
}

func (c *Canary) move(t *trial) error {
	if err := c.open(); err != nil {
		return err
	}
	c.mu.Lock()
	t.wants = c.sockets.wants()
	c.mu.Unlock()
	return c.sockets.exchange()
}

// execute runs the tiny program; if that cannot be done here it is not tried again.
func (c *Canary) execute(t *trial) error {
	err := c.openProgram()
	if err == nil {
		c.mu.Lock()
		t.exec = true
		c.mu.Unlock()
		c.execDue = c.options.Now().Boot + int64(c.options.ExecEvery)
		err = execute(c.program)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		t.exec = false
		delete(c.words, execs)
		delete(c.words, exits)
		return err
	}
	c.counters.Executions++
	return nil
}

// open makes the sockets, if there are none.
func (c *Canary) open() error {
	if c.sockets != nil {
		return nil
	}
	s, err := makeSockets()
	if err != nil {
		return err
	}
	if err := c.connect(s); err != nil {
		s.close()
		return err
	}
	c.sockets = s
	if err := c.options.Keep(s.cookies()); err != nil {
		return fmt.Errorf("keep cookies: %w", err)
	}
	return nil
}

// connect makes the first flows: the mutex keeps windows out until their cookies are known.
func (c *Canary) connect(s *sockets) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := s.connect()
	c.ours = append(c.ours, s.cookies()...)
	c.ours = c.ours[max(0, len(c.ours)-maxKnown):]
	return err
}

func (c *Canary) openProgram() error {
	if c.program >= 0 {
		return nil
	}
	fd, err := makeProgram()
	if err != nil {
		return err
	}
	c.program = fd
	key, err := c.options.FileKey(fd)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file = key
	return nil
}

// Process tells whether a process instance is the canary's tiny program, which nobody else needs to know.
func (c *Canary) Process(p *capture.Process) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == (capture.FileKey{}) || p.File != c.file || p.Forked {
		return false
	}
	if t := c.trial; t != nil && t.exec {
		t.process, t.executed, t.ended = p.Key, true, p.Exited != 0
	}
	return true
}

// Exit takes the end of a process instance.
func (c *Canary) Exit(e *capture.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.trial; t != nil && t.executed && e.Key == t.process {
		t.ended = true
	}
}

// Owns tells whether a flow is the canary's.
func (c *Canary) Owns(f *capture.Flow) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ownsLocked(f)
}

func (c *Canary) ownsLocked(f *capture.Flow) bool {
	return f.Socket != 0 && slices.Contains(c.ours, f.Socket)
}

// Window takes the canary's flows out of a window and tells the verdict that it allows, if it does.
func (c *Canary) Window(w *capture.Window) (Verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(w.Flows)
	w.Flows = slices.DeleteFunc(w.Flows, func(f capture.Flow) bool {
		if !c.ownsLocked(&f) {
			return false
		}
		if c.trial != nil {
			c.trial.add(&f)
		}
		return true
	})
	c.counters.Flows += uint64(before - len(w.Flows))
	t := c.trial
	if t == nil || t.finished.Boot == 0 || w.End.Boot < t.finished.Boot {
		return Verdict{}, false
	}
	return c.judgeLocked(t, w)
}

func (c *Canary) judgeLocked(t *trial, w *capture.Window) (Verdict, bool) {
	t.windows++
	blind := t.blind(c.words)
	switch {
	case len(blind) == 0:
		c.good = t.finished
	case lossy(w):
		c.trial, c.urgent = nil, true
		c.counters.Unjudged++
		return Verdict{}, false
	case t.windows < judgedBy:
		return Verdict{}, false
	default:
		c.counters.Lost++
	}
	c.trial = nil
	c.counters.Exchanges++
	return Verdict{Blind: blind, Since: c.good}, true
}
