package sdktest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/sdk/dial"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// callTimeout bounds every single call; a loaded machine needs some room.
const callTimeout = 30 * time.Second

// process is one incarnation of the plugin under test.
type process struct {
	*sdk.Client
	t      *testing.T
	cmd    *exec.Cmd
	client *plugin.Client
}

// start starts the plugin and waits for its handshake. It is killed when t ends, if not before.
func start(t *testing.T, o Options) *process {
	t.Helper()
	// Not t.TempDir: the path of a unix socket has room for 107 bytes.
	sockets, err := os.MkdirTemp("", "sdktest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	stderr := &log{}
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "PLUGIN_UNIX_SOCKET_DIR=" + sockets}, o.Env...)
	p := &process{t: t, cmd: cmd, client: plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  dial.Handshake(),
		Plugins:          plugin.PluginSet{dial.PluginName: dial.Plugin()},
		Cmd:              cmd,
		AutoMTLS:         true,
		SkipHostEnv:      true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off}),
		Stderr:           stderr,
		StartTimeout:     callTimeout,
	})}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the plugin's standard error:\n%s", stderr.text())
		}
	})
	protocol, err := p.client.Client()
	if err != nil {
		t.Fatalf("start %q: %v\n%s", o.Command, err, stderr.text())
	}
	raw, err := protocol.Dispense(dial.PluginName)
	if err != nil {
		t.Fatalf("dispense: %v", err)
	}
	p.Client = raw.(*sdk.Client)
	return p
}

// kill ends the plugin as a crash does. It may be called again.
func (p *process) kill() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // it may have ended by itself
	}
	p.client.Kill()
}

// describe asks who is there.
func (p *process) describe() *wire.DescribeResponse {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	d, err := p.Plugin.Describe(ctx, &wire.DescribeRequest{Wire: wire.Version})
	if err != nil {
		p.t.Fatalf("describe: %v", err)
	}
	return d
}

// configure configures and returns the watermarks by epoch.
func (p *process) configure(o Options, s *Stream, directory string) map[sdk.Epoch]uint64 {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	r, err := p.Plugin.Configure(ctx, &wire.ConfigureRequest{
		HostId: s.Host[:], BootId: make([]byte, 16), Epoch: s.Epoch[:], Config: o.Config, Directory: directory,
	})
	if err != nil {
		p.t.Fatalf("configure: %v", err)
	}
	marks := make(map[sdk.Epoch]uint64)
	for _, m := range r.GetWatermarks() {
		if len(m.GetEpoch()) != len(sdk.Epoch{}) {
			p.t.Fatalf("configure: watermark with an epoch of %d bytes, want 16", len(m.GetEpoch()))
		}
		marks[sdk.Epoch(m.GetEpoch())] = m.GetSequence()
	}
	return marks
}

// apply delivers a batch, again as long as the plugin asks for a retry.
func (p *process) apply(b *wire.Batch) *wire.ApplyResponse {
	p.t.Helper()
	ask := request(p.t, b)
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for {
		r, err := p.Sink.Apply(ctx, ask)
		if err != nil {
			p.t.Fatalf("apply %d..%d: %v", b.GetFirst(), b.GetLast(), err)
		}
		retry := r.GetRetryAfter()
		if retry == nil {
			return r
		}
		select {
		case <-time.After(time.Duration(retry.GetDelay())):
		case <-ctx.Done():
			p.t.Fatalf("apply %d..%d: still to be retried after %v: %s", b.GetFirst(), b.GetLast(), callTimeout, retry.GetReason())
		}
	}
}

// store delivers a batch that must be acknowledged.
func (p *process) store(b *wire.Batch) {
	p.t.Helper()
	mark := p.apply(b).GetAcknowledged().GetWatermark()
	if !bytes.Equal(mark.GetEpoch(), b.GetEpoch()) || mark.GetSequence() < b.GetLast() {
		p.t.Fatalf("apply %d..%d: want it acknowledged, got the watermark %v", b.GetFirst(), b.GetLast(), mark)
	}
}

// refused says whether a delivery is answered with an error rather than an outcome.
func (p *process) refused(b *wire.Batch) codes.Code {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, err := p.Sink.Apply(ctx, request(p.t, b))
	return status.Code(err)
}

// request is a batch ready to be delivered.
func request(t *testing.T, b *wire.Batch) *wire.ApplyRequest {
	t.Helper()
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return &wire.ApplyRequest{Codec: wire.CodecProto, Batch: raw}
}

// interrupt kills the plugin a while after a batch was handed to it, whether it has answered or not.
func (p *process) interrupt(b *wire.Batch, after time.Duration) {
	p.t.Helper()
	r := request(p.t, b)
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = p.Sink.Apply(ctx, r) // any answer will do
	}()
	time.Sleep(after)
	p.kill()
	<-answered
}

// log keeps the beginning of what a plugin writes.
type log struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := 64<<10 - l.kept.Len(); room > 0 {
		l.kept.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.String()
}
