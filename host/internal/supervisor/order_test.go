package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// crew is a supervisor over fakes, inside a bubble of its own time.
type crew struct {
	*Supervisor
	feed    *memoryFeed
	running sync.WaitGroup

	mu    sync.Mutex
	begun time.Time
	seen  []string // "2s ui running", in the order in which it was
}

// assemble starts a plugin of each kind, in an order that is the wrong one, and tells of the states named.
func assemble(plugins map[string]fakePlugin, batches int, states ...string) *crew {
	c := &crew{feed: newFeed(batches), begun: time.Now()}
	o := &Options{
		Jitter: func() float64 { return 1 },
		Feed:   func(string) (Feed, error) { return c.feed, nil },
		Report: func(e Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if slices.Contains(states, e.State) {
				c.seen = append(c.seen, fmt.Sprint(time.Since(c.begun), " ", e.Plugin, " ", e.State))
			}
		},
	}
	c.Supervisor = &Supervisor{o: *o, ended: make(chan struct{}), stopping: make(chan struct{})}
	for _, kind := range []string{"ui", kindVerdicts, kindSink} {
		p := plugins[kind]
		p.kinds = []string{kind}
		w := newWorker(Spec{Name: kind, Kinds: p.kinds, Path: "/nowhere", Directory: "/nowhere", Config: []byte("{}")}, o)
		w.start = func(context.Context, *process.Thread) (*incarnation, error) {
			return &incarnation{life: newFakeLife(), client: &sdk.Client{Plugin: p, Sink: p}}, nil
		}
		c.workers = append(c.workers, w)
	}
	for _, w := range c.workers {
		w.earlier = earlier(w, c.workers)
		c.running.Go(func() {
			defer close(w.ended)
			w.run(context.Background(), nil, w.stopping, w.deadline)
		})
	}
	return c
}

// stop is what Stop does with a budget.
func (c *crew) stop(budget time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	c.mu.Lock()
	c.begun = time.Now()
	c.mu.Unlock()
	c.dismiss(ctx)
	c.running.Wait()
}

func (c *crew) told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// after is a Configure, or a Drain, that takes a time and returns an error.
func after(d time.Duration, err error) func() error {
	return func() error { time.Sleep(d); return err }
}

func TestSinksStartFirstAndViewsLast(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sink func() error // its Configure
		want []string
	}{
		"each waits for the one before": {after(time.Second, nil), []string{"1s sink running", "2s verdicts running", "2s ui running"}},
		"but not for one that fails":    {after(0, errors.New("no")), []string{"1s verdicts running", "1s ui running"}},
		"nor for one that hangs":        {after(time.Hour, nil), []string{"3s ui running", "4s verdicts running"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				crew := assemble(map[string]fakePlugin{kindSink: {configure: c.sink}, kindVerdicts: {configure: after(time.Second, nil)}}, 0, StateRunning)
				time.Sleep(20 * time.Second)
				synctest.Wait()
				if diff := cmp.Diff(c.want, crew.told()); diff != "" {
					t.Error(diff)
				}
				crew.stop(time.Second)
			})
		})
	}
}

func TestSinksEndLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := fakePlugin{drain: func(context.Context) error { return after(time.Second, nil)() }}
		crew := assemble(map[string]fakePlugin{kindSink: slow, kindVerdicts: slow, "ui": slow}, 0, StateDraining, StateStopped)
		time.Sleep(time.Second)
		crew.stop(20 * time.Second)
		want := []string{"0s ui draining", "1s ui stopped", "1s verdicts draining", "2s verdicts stopped", "2s sink draining", "3s sink stopped"}
		if diff := cmp.Diff(want, crew.told()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestHungViewTakesNoTimeFromSinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hung := fakePlugin{drain: func(ctx context.Context) error { <-ctx.Done(); return after(time.Hour, nil)() }}
		slow := fakePlugin{apply: func(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
			time.Sleep(100 * time.Millisecond)
			return acknowledge(b), nil
		}}
		crew := assemble(map[string]fakePlugin{kindSink: slow, kindVerdicts: hung, "ui": hung}, 100, StateDraining)
		synctest.Wait()
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		crew.dismiss(ctx)
		if took := time.Since(begun); took > 2*shareTime {
			t.Errorf("the sink was asked to end after %v", took)
		}
		<-crew.find(kindSink).ended
		if lag := crew.feed.Lag(); lag > 0 {
			t.Errorf("%d records were left for the next start", lag)
		}
		crew.running.Wait() // for hours: a fake cannot be killed
	})
}

func TestRealPluginsStartAndEndInOrder(t *testing.T) {
	t.Parallel()
	r := run(t, slot(36), Spec{Name: pageName, Kinds: []string{"ui"}, Owner: someone}, Spec{Name: "sink", Kinds: []string{kindSink}, Owner: someone})
	r.await("both", func() bool {
		return r.status(pageName).GetState() == StateRunning && r.status("sink").GetState() == StateRunning
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := func(plugin, state string) int {
		return slices.IndexFunc(r.events, func(e Event) bool { return e.Plugin == plugin && e.State == state })
	}
	if up, begins := at("sink", StateRunning), at(pageName, StateConfiguring); up < 0 || begins < up {
		t.Errorf("the page began before the sink ran: %v", r.events)
	}
	if ended, drains := at(pageName, StateStopped), at("sink", StateDraining); ended < 0 || drains < ended {
		t.Errorf("the sink was drained before the page had ended: %v", r.events)
	}
}
