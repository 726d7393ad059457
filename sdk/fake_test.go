package sdk

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// fake is a store made of functions; those that are nil do nothing.
type fake struct {
	configure  func(Settings) error
	watermarks func() ([]Watermark, error)
	apply      func(context.Context, *Batch) error
	query      func(context.Context, func(*wire.QueryPage) error) error
	health     func() error
	drain      func() error
}

func (f *fake) Describe() Description { return Description{Name: "fake", Version: "1"} }

func (f *fake) Configure(_ context.Context, s Settings) error {
	if f.configure == nil {
		return nil
	}
	return f.configure(s)
}

func (f *fake) Health(context.Context) error {
	if f.health == nil {
		return nil
	}
	return f.health()
}

func (f *fake) Drain(context.Context) error {
	if f.drain == nil {
		return nil
	}
	return f.drain()
}

func (f *fake) Watermarks(context.Context) ([]Watermark, error) {
	if f.watermarks == nil {
		return nil, nil
	}
	return f.watermarks()
}

func (f *fake) Apply(ctx context.Context, b *Batch) error {
	if f.apply == nil {
		return nil
	}
	return f.apply(ctx, b)
}

func (f *fake) Query(ctx context.Context, _ *wire.Query, page func(*wire.QueryPage) error) error {
	if f.query == nil {
		return nil
	}
	return f.query(ctx, page)
}

// lockedBuffer is what the plugin under test logs to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// connect serves a plugin over memory.
func connect(t *testing.T, p Plugin) (*Client, *lockedBuffer) {
	t.Helper()
	logged := &lockedBuffer{}
	s := newServer(p, slog.New(slog.NewJSONHandler(logged, nil)))
	g := grpc.NewServer(s.options()...)
	s.register(g)
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return NewClient(conn), logged
}

func configureRequest() *wire.ConfigureRequest {
	return &wire.ConfigureRequest{HostId: make([]byte, 16), BootId: make([]byte, 16), Epoch: make([]byte, 16)}
}

// ready connects and configures.
func ready(t *testing.T, p Plugin) (*Client, *lockedBuffer) {
	t.Helper()
	c, logged := connect(t, p)
	if _, err := c.Plugin.Configure(t.Context(), configureRequest()); err != nil {
		t.Fatalf("configure: %v", err)
	}
	return c, logged
}

// batchOf is a batch of n empty flows.
func batchOf(n int) *wire.Batch {
	b := &wire.Batch{HostId: make([]byte, 16), Epoch: make([]byte, 16), First: 1, Last: uint64(n)}
	for i := range n {
		b.Records = append(b.Records, &wire.Record{Sequence: uint64(i + 1), Kind: &wire.Record_Flow{Flow: &wire.Flow{}}})
	}
	Seal(b, Hash{})
	return b
}

func request(t *testing.T, b *wire.Batch) *wire.ApplyRequest {
	t.Helper()
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return &wire.ApplyRequest{Codec: wire.CodecProto, Batch: raw}
}

// want fails unless err has the code and contains the words.
func want(t *testing.T, err error, code codes.Code, words string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
		t.Errorf("got %v, want %v with %q", err, code, words)
	}
}
