package live

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Watch hands page what happens, until ctx ends, page returns an error, which is returned, or the feed is closed
// ([ErrClosed]). A page comes every interval, also an empty one. page may take its time; messages inside are shared
// and read-only. What does not fit into one message comes as several pages of one time.
func (f *Feed) Watch(ctx context.Context, r *wire.WatchRequest, page func(*wire.WatchPage) error) error {
	w, err := newWatcher(r)
	if err != nil {
		return err
	}
	if err := f.join(w); err != nil {
		return err
	}
	defer f.leave(w)
	last := f.options.Now()
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ended:
			return ErrClosed
		case <-tick.C:
		}
		if f.options.Peek != nil {
			w.awaitLook(ctx, tick.C)
		}
		now := f.options.Now()
		for _, part := range split(f.descent(w.take(now, now.Sub(last)))) {
			if err := page(part); err != nil {
				return err
			}
		}
		last = now
	}
}

// descent names whom the processes of flows descend from: only of what is shown, since each takes a look at the table.
func (f *Feed) descent(p *wire.WatchPage) *wire.WatchPage {
	if f.options.Ancestors == nil {
		return p
	}
	for _, flow := range p.Flows {
		flow.Ancestors = f.options.Ancestors(flow.GetFlow().GetProcess().GetId())
	}
	return p
}

// awaitLook waits until somebody has looked since the last page, so that no page is empty only because it came a moment
// before; at most until the next page is due.
func (w *watcher) awaitLook(ctx context.Context, due <-chan time.Time) {
	select {
	case <-w.looked:
	case <-due:
	case <-w.ended:
	case <-ctx.Done():
	}
}

// tell lets awaitLook go on.
func (w *watcher) tell() {
	select {
	case w.looked <- struct{}{}:
	default:
	}
}

// watcher is what waits for one reader.
type watcher struct {
	interval time.Duration
	kinds    [4]bool // by wire.WatchRequest_Kind
	ended    chan struct{}
	once     sync.Once
	looked   chan struct{} // has room for one

	mu      sync.Mutex
	order   *list.List // of *waiting, oldest first
	flows   map[flowKey]*list.Element
	records []*wire.Record // the oldest at head
	head    int
	lagged  uint64
}

// waiting is a flow with what it moved since the page before.
type waiting struct {
	key   flowKey
	flow  *wire.Flow
	moved sum
	span  time.Duration // in which it moved; 0: not known
}

func newWatcher(r *wire.WatchRequest) (*watcher, error) {
	w := &watcher{
		interval: time.Duration(r.GetInterval()), ended: make(chan struct{}), looked: make(chan struct{}, 1), order: list.New(), flows: map[flowKey]*list.Element{},
	}
	switch {
	case w.interval == 0:
		w.interval = usual
	case w.interval < shortest || w.interval > longest:
		return nil, fmt.Errorf("%w: interval %v: want %v to %v", ErrRequest, w.interval, shortest, longest)
	}
	for _, kind := range r.GetKinds() {
		if kind < 0 || int(kind) >= len(w.kinds) {
			return nil, fmt.Errorf("%w: there is no kind %d", ErrRequest, kind)
		}
		w.kinds[kind] = true
	}
	if len(r.GetKinds()) == 0 {
		w.kinds = [4]bool{true, true, true, true}
	}
	return w, nil
}

func (w *watcher) end() { w.once.Do(func() { close(w.ended) }) }

// flow has a flow wait, or adds to the one that does. Beyond the bound the one that waits longest is dropped.
func (w *watcher) flow(key flowKey, flow *wire.Flow, moved sum, span time.Duration) {
	if !w.kinds[wire.WatchRequest_FLOWS] {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, ok := w.flows[key]; ok {
		known := e.Value.(*waiting)
		known.flow = flow
		known.span += span
		known.moved.sent += moved.sent
		known.moved.received += moved.received
		return
	}
	if len(w.flows) >= maxWaiting {
		oldest := w.order.Front()
		delete(w.flows, w.order.Remove(oldest).(*waiting).key)
		w.lagged++
	}
	w.flows[key] = w.order.PushBack(&waiting{key: key, flow: flow, moved: moved, span: span})
}

// record has a record wait; beyond the bound the oldest is dropped.
func (w *watcher) record(kind wire.WatchRequest_Kind, r *wire.Record) {
	if !w.kinds[kind] {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.records) < maxWaiting {
		w.records = append(w.records, r)
		return
	}
	w.records[w.head] = r
	w.head = (w.head + 1) % maxWaiting
	w.lagged++
}

// take empties what waits into a page. passed is the time since the page before.
func (w *watcher) take(now time.Time, passed time.Duration) *wire.WatchPage {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &wire.WatchPage{Time: now.UnixNano(), Lagged: w.lagged}
	for e := w.order.Front(); e != nil; e = e.Next() {
		f := e.Value.(*waiting)
		span := f.span
		if span <= 0 {
			span = max(passed, shortest)
		}
		p.Flows = append(p.Flows, &wire.LiveFlow{
			Flow: f.flow, SentRate: rate(f.moved.sent, span), ReceivedRate: rate(f.moved.received, span),
		})
	}
	p.Records = append(append(p.Records, w.records[w.head:]...), w.records[:w.head]...)
	w.order.Init()
	clear(w.flows)
	w.records, w.head, w.lagged = nil, 0, 0
	return p
}

// rate is bytes per second.
func rate(bytes uint64, span time.Duration) uint64 {
	return uint64(float64(bytes) / span.Seconds())
}

// kindOf tells what a record is to a watcher; false for what nobody can ask for.
func kindOf(r *wire.Record) (wire.WatchRequest_Kind, bool) {
	switch r.GetKind().(type) {
	case *wire.Record_Flow:
		return wire.WatchRequest_FLOWS, true
	case *wire.Record_Exec:
		return wire.WatchRequest_EXECS, true
	case *wire.Record_Notice:
		return wire.WatchRequest_NOTICES, true
	case *wire.Record_Gap:
		return wire.WatchRequest_GAPS, true
	}
	return 0, false
}
