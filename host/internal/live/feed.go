package live

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

var (
	// ErrClosed answers who watches a feed that has been closed, or is.
	ErrClosed = errors.New("the live feed has ended")
	// ErrTooMany answers who watches beyond the bound.
	ErrTooMany = errors.New("too many watch the live feed already")
	// ErrRequest is wrapped by the error of a request that cannot be meant.
	ErrRequest = errors.New("watch")
)

// Peeker reads the window that is being counted now, as far as it has come: its generation, its start, End as the moment of
// reading, and its flows. It takes nothing from the window. Losses and Position are not set.
type Peeker interface {
	Peek(ctx context.Context) (*capture.Window, error)
}

// Options are what a [Feed] works with.
type Options struct {
	Peek      Peeker                                 // nil: flows are shown when their window is complete
	Lineage   func(*capture.Flow) identity.Lineage   // names the process of a flow
	Ancestors func(*wire.ProcessId) []*wire.Ancestor // names whom a flow's process descends from; may be nil
	Record    record.Options                         // what may be shown: the recorder's own
	Now       func() time.Time                       // nil: time.Now
	Log       *slog.Logger                           // nil: nowhere
}

// Bounds.
const (
	maxWatchers = 32
	maxWaiting  = 4096 // flows, and as many records, that wait for one watcher
	shortest    = 100 * time.Millisecond
	usual       = time.Second
	longest     = time.Minute
)

// Feed is the live view. Make it with [New].
type Feed struct {
	options Options

	mu       sync.Mutex
	filter   *filter
	watchers map[*watcher]bool
	since    uint64                     // first generation that was looked into for those who watch now
	looked   time.Time                  // when last
	seen     map[uint64]map[flowKey]sum // generation -> as last seen; at most two
	current  map[flowKey]*wire.Flow     // of the last look, for who comes later
	stop     context.CancelFunc         // of the goroutine that looks; nil while nobody watches
	closed   bool
	looking  sync.WaitGroup

	hurry chan struct{} // has room for one: a watcher came
}

// sum is what a flow had moved.
type sum struct{ sent, received uint64 }

// New makes a feed. An error is one of Options.Record.
func New(o Options) (*Feed, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f, err := newFilter(o)
	if err != nil {
		return nil, err
	}
	return &Feed{options: o, filter: f, watchers: map[*watcher]bool{}, hurry: make(chan struct{}, 1)}, nil
}

// Reconfigure changes what may be shown from now on.
func (f *Feed) Reconfigure(o record.Options) error {
	options := f.options
	options.Record = o
	made, err := newFilter(options)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filter = made
	return nil
}

// Close ends every Watch with [ErrClosed] and waits for the goroutine that looks.
func (f *Feed) Close() {
	f.mu.Lock()
	f.closed = true
	for w := range f.watchers {
		w.end()
	}
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
	f.mu.Unlock()
	f.looking.Wait()
}

// Records passes on what was made. Kinds that nobody can ask for are left out; the messages inside are shared and
// read-only.
func (f *Feed) Records(records []*wire.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watchers) == 0 {
		return
	}
	for _, r := range records {
		kind, ok := kindOf(r)
		if !ok || kind == wire.WatchRequest_FLOWS {
			continue
		}
		for w := range f.watchers {
			// A record of its own: the journal is yet to write the sequence into r.
			w.record(kind, &wire.Record{Kind: r.GetKind()})
		}
	}
}

// Window settles a window that is complete: records has its flows as they are recorded, and may have others, which are
// passed over.
func (f *Feed) Window(w *capture.Window, records []*wire.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.seen[w.Generation]
	delete(f.seen, w.Generation)
	if len(f.watchers) == 0 || w.Generation < f.since {
		return
	}
	flows := map[flowKey]*wire.Flow{}
	for _, r := range records {
		if flow := r.GetFlow(); flow != nil {
			gather(flows, flow)
		}
	}
	var span time.Duration // what is left of a window that was looked into moved in a time that the next look covers
	if known == nil {
		span = time.Duration(w.End.Boot - w.Start.Boot)
	}
	f.spreadLocked(flows, known, span)
}

// spreadLocked hands watchers what moved. span is the time in which it did.
func (f *Feed) spreadLocked(flows map[flowKey]*wire.Flow, before map[flowKey]sum, span time.Duration) {
	for key, flow := range flows {
		old, known := before[key]
		moved := sum{sent: less(flow.GetSent(), old.sent), received: less(flow.GetReceived(), old.received)}
		if known && moved == (sum{}) {
			continue
		}
		for w := range f.watchers {
			w.flow(key, flow, moved, span)
		}
	}
}

// less never wraps round: a sum that shrank belongs to another set of sockets behind the same key.
func less(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return a - b
}

// run looks until ctx ends, as often as the most eager watcher wants.
func (f *Feed) run(ctx context.Context) {
	for {
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			f.options.Log.Warn("look at the current window", "error", err)
		}
		select {
		case <-time.After(f.pace()):
		case <-f.hurry: // somebody came who may want it sooner
		case <-ctx.Done():
			return
		}
	}
}

func (f *Feed) pace() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	pace := longest
	for w := range f.watchers {
		pace = min(pace, w.interval)
	}
	return pace
}

// look reads the current window and hands on what moved since the last look. The first look is where rates begin: it
// shows what there is.
func (f *Feed) look(ctx context.Context) error {
	w, err := f.options.Peek.Peek(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	filter := f.filter
	f.mu.Unlock()
	flows := filter.flows(w)

	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.options.Now()
	if ctx.Err() != nil {
		return nil // everybody has left meanwhile
	}
	before, span := f.seen[w.Generation], now.Sub(f.looked)
	if f.since == math.MaxUint64 {
		f.since, before, span = w.Generation, sums(flows), 0
		f.showLocked(flows)
	}
	f.spreadLocked(flows, before, span)
	for w := range f.watchers {
		w.tell()
	}
	f.seen[w.Generation] = sums(flows)
	if len(f.seen) > 2 {
		f.forgetLocked(w.Generation)
	}
	f.looked, f.current = now, flows
	return nil
}

// showLocked shows flows that stand still, as far as anybody knows.
func (f *Feed) showLocked(flows map[flowKey]*wire.Flow) {
	for key, flow := range flows {
		for w := range f.watchers {
			w.flow(key, flow, sum{}, 0)
		}
	}
}

// forgetLocked drops what was seen of windows that never came: the pipeline is at most one window behind.
func (f *Feed) forgetLocked(now uint64) {
	for generation := range f.seen {
		if generation+1 < now {
			delete(f.seen, generation)
		}
	}
}

func sums(flows map[flowKey]*wire.Flow) map[flowKey]sum {
	out := make(map[flowKey]sum, len(flows))
	for key, flow := range flows {
		out[key] = sum{sent: flow.GetSent(), received: flow.GetReceived()}
	}
	return out
}

// join adds a watcher; the first one starts the goroutine that looks, if there is anything to look at.
func (f *Feed) join(w *watcher) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return ErrClosed
	case len(f.watchers) >= maxWatchers:
		return ErrTooMany
	}
	for key, flow := range f.current {
		w.flow(key, flow, sum{}, 0)
	}
	f.watchers[w] = true
	select {
	case f.hurry <- struct{}{}:
	default:
	}
	if f.stop == nil && f.options.Peek != nil {
		f.since, f.seen, f.looked = math.MaxUint64, map[uint64]map[flowKey]sum{}, time.Time{}
		ctx, stop := context.WithCancel(context.Background())
		f.stop = stop
		f.looking.Go(func() { f.run(ctx) })
	}
	return nil
}

// leave removes a watcher; with the last one everything is forgotten.
func (f *Feed) leave(w *watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watchers, w)
	if len(f.watchers) > 0 {
		return
	}
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
	f.seen, f.current, f.looked, f.since = nil, nil, time.Time{}, 0
}
