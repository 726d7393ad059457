package supervisor

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// fakeLife is a process that ends when it is told to.
type fakeLife struct {
	done chan struct{}
	once *sync.Once
	quit *atomic.Bool
}

func newFakeLife() fakeLife { return fakeLife{make(chan struct{}), new(sync.Once), new(atomic.Bool)} }

func (f fakeLife) PID() int { return 42 }

func (f fakeLife) Done() <-chan struct{} { return f.done }

func (f fakeLife) Exit() process.Exit { return process.Exit{Code: -1, Signal: syscall.SIGKILL} }

func (f fakeLife) Words() string { return "last words" }

func (f fakeLife) Tail(int) []string { return nil }

func (f fakeLife) Quit() { f.quit.Store(true) }

func (f fakeLife) Kill() { f.once.Do(func() { close(f.done) }) }

func (f fakeLife) Close() error { f.Kill(); return nil }

// fakePlugin answers as its fields say; nil fields are a healthy sink.
type fakePlugin struct {
	configure func() error
	kinds     []string // nil: a store
	health    func(ctx context.Context) (*wire.HealthResponse, error)
	apply     func(ctx context.Context, b *wire.Batch) (*wire.ApplyResponse, error)
	drain     func(ctx context.Context) error
	drained   *atomic.Bool
}

func (p fakePlugin) Describe(context.Context, *wire.DescribeRequest, ...grpc.CallOption) (*wire.DescribeResponse, error) {
	kinds := p.kinds
	if kinds == nil {
		kinds = []string{"sink", "store"}
	}
	return &wire.DescribeResponse{Name: "fake", Wire: wire.Version, Kinds: kinds}, nil
}

func (p fakePlugin) Configure(context.Context, *wire.ConfigureRequest, ...grpc.CallOption) (*wire.ConfigureResponse, error) {
	if p.configure != nil {
		return nil, p.configure()
	}
	return &wire.ConfigureResponse{}, nil
}

func (p fakePlugin) Health(ctx context.Context, _ *wire.HealthRequest, _ ...grpc.CallOption) (*wire.HealthResponse, error) {
	if p.health != nil {
		return p.health(ctx)
	}
	return &wire.HealthResponse{State: wire.HealthResponse_OK}, nil
}

func (p fakePlugin) Drain(ctx context.Context, _ *wire.DrainRequest, _ ...grpc.CallOption) (*wire.DrainResponse, error) {
	if p.drain != nil {
		return nil, p.drain(ctx)
	}
	if p.drained != nil {
		p.drained.Store(true)
	}
	return &wire.DrainResponse{}, nil
}

func (p fakePlugin) Apply(ctx context.Context, r *wire.ApplyRequest, _ ...grpc.CallOption) (*wire.ApplyResponse, error) {
	b := decode(r.GetBatch())
	if p.apply != nil {
		return p.apply(ctx, b)
	}
	return acknowledge(b), nil
}

func acknowledge(b *wire.Batch) *wire.ApplyResponse {
	return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Acknowledged{Acknowledged: &wire.Acknowledged{
		Watermark: &wire.Watermark{Epoch: b.GetEpoch(), Sequence: b.GetLast()}}}}
}

// stage is a worker over fakes, inside a bubble of its own time.
type stage struct {
	*worker
	feed   *memoryFeed
	stop   func()
	budget context.Context // of stop

	mu     sync.Mutex
	starts []time.Duration // since the beginning
	lives  []fakeLife
	events []Event
}

func (s *stage) started() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.starts)
}

func (s *stage) lived() []fakeLife {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lives)
}

func (s *stage) reported() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// play runs a worker whose n-th incarnation is what cast returns, or fails to start.
func play(cast func(n int) (fakePlugin, error), batches int) *stage {
	return playAs(Spec{Name: "fake", Path: "/nowhere", Directory: "/nowhere", Config: []byte("{}")}, cast, batches)
}

// playAs is play with a spec of the test's.
func playAs(spec Spec, cast func(n int) (fakePlugin, error), batches int) *stage {
	s := &stage{feed: newFeed(batches), budget: context.Background()}
	o := &Options{
		Jitter: func() float64 { return 1 },
		Feed:   func(string) (Feed, error) { return s.feed, nil },
		Report: func(e Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, e)
		},
	}
	s.worker = newWorker(spec, o)
	begun := time.Now()
	s.start = func(context.Context, *process.Thread) (*incarnation, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p, err := cast(len(s.starts))
		s.starts = append(s.starts, time.Since(begun))
		if err != nil {
			return nil, err
		}
		life := newFakeLife()
		s.lives = append(s.lives, life)
		return &incarnation{life: life, client: &sdk.Client{Plugin: p, Sink: p}}, nil
	}
	stopping, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(s.ended)
		s.run(context.Background(), nil, stopping, func() context.Context { return s.budget })
	}()
	s.stop = func() { close(stopping); <-ended }
	return s
}

func always(p fakePlugin) func(int) (fakePlugin, error) {
	return func(int) (fakePlugin, error) { return p, nil }
}
