package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestExactlyTheServicesOfThePluginAreOffered(t *testing.T) {
	t.Parallel()
	type trunk struct{ Plugin }
	type sink struct{ Sink }
	for name, test := range map[string]struct {
		plugin Plugin
		want   string
	}{
		"trunk": {trunk{&fake{}}, "Plugin"},
		"sink":  {sink{&fake{}}, "Plugin Sink"},
		"store": {&fake{}, "Plugin Sink Store"},
	} {
		g := grpc.NewServer()
		newServer(test.plugin, slog.Default()).register(g)
		var got []string
		for _, service := range []string{"Plugin", "Sink", "Store"} {
			if _, ok := g.GetServiceInfo()["picosnitch.wire.v1."+service]; ok {
				got = append(got, service)
			}
		}
		if strings.Join(got, " ") != test.want || len(g.GetServiceInfo()) != len(got) {
			t.Errorf("%s: got %v, want %q", name, g.GetServiceInfo(), test.want)
		}
	}
}

func TestAPanicIsAnErrorOfThatCallOnly(t *testing.T) {
	t.Parallel()
	panics := true
	c, logged := ready(t, &fake{
		apply: func(context.Context, *Batch) error {
			if panics {
				panics = false
				panic("odd \xff record")
			}
			return nil
		},
		query: func(context.Context, func(*wire.QueryPage) error) error { panic("odd question") },
	})
	_, err := c.Sink.Apply(t.Context(), request(t, batchOf(1)))
	want(t, err, codes.Internal, "panic: odd \ufffd record")
	stream, err := c.Store.Query(t.Context(), &wire.Query{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	want(t, err, codes.Internal, "panic: odd question")
	if _, err := c.Sink.Apply(t.Context(), request(t, batchOf(1))); err != nil {
		t.Errorf("the call after a panic: %v", err)
	}
	if lines := strings.Split(strings.TrimSpace(logged.String()), "\n"); len(lines) != 2 || !strings.Contains(lines[0], "server_test.go") {
		t.Errorf("want one line with the stack for each panic, got:\n%s", logged)
	}
}

func TestAPanicOfConfigureLeavesThePluginUnconfigured(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, &fake{configure: func(Settings) error { panic("no") }})
	_, err := c.Plugin.Configure(t.Context(), configureRequest())
	want(t, err, codes.Internal, "panic: no")
	_, err = c.Sink.Apply(t.Context(), request(t, batchOf(1)))
	want(t, err, codes.FailedPrecondition, "not configured")
}

func TestCallsInTheWrongOrderAreRefused(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, &fake{})
	ctx := t.Context()
	apply := func() error { _, err := c.Sink.Apply(ctx, request(t, batchOf(1))); return err }
	query := func() error {
		stream, err := c.Store.Query(ctx, &wire.Query{})
		if err != nil {
			return err
		}
		if _, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	configure := func() error { _, err := c.Plugin.Configure(ctx, configureRequest()); return err }
	want(t, apply(), codes.FailedPrecondition, "apply: the plugin is not configured")
	want(t, query(), codes.FailedPrecondition, "query: the plugin is not configured")
	want(t, configure(), codes.OK, "")
	want(t, configure(), codes.FailedPrecondition, "configure: called before")
	want(t, apply(), codes.OK, "")
	want(t, query(), codes.OK, "")
	for range 2 { // the host may repeat a Drain whose answer it did not get
		_, err := c.Plugin.Drain(ctx, &wire.DrainRequest{})
		want(t, err, codes.OK, "")
	}
	want(t, apply(), codes.FailedPrecondition, "apply: the plugin is drained")
	want(t, query(), codes.FailedPrecondition, "query: the plugin is drained")
}

func TestSettingsAreCheckedBeforeThePluginSeesThem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*wire.ConfigureRequest)
		words  string
	}{
		"no host id":     {func(r *wire.ConfigureRequest) { r.HostId = nil }, "host_id: 0 bytes, want 16"},
		"short epoch":    {func(r *wire.ConfigureRequest) { r.Epoch = []byte{1} }, "epoch: 1 bytes, want 16"},
		"broken config":  {func(r *wire.ConfigureRequest) { r.Config = `{"password":"hunter2"` }, "config: not a JSON object"},
		"no object":      {func(r *wire.ConfigureRequest) { r.Config = `null` }, "config: not a JSON object"},
		"config is list": {func(r *wire.ConfigureRequest) { r.Config = `[]` }, "config: not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := connect(t, &fake{configure: func(Settings) error { t.Error("the plugin was called"); return nil }})
			r := configureRequest()
			test.change(r)
			_, err := c.Plugin.Configure(t.Context(), r)
			want(t, err, codes.InvalidArgument, test.words)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestErrorsOfConfigureSayWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"configuration": {fmt.Errorf("%w: port 0", ErrConfig), codes.InvalidArgument, "configure: port 0"},
		"retry":         {&Retry{Err: errors.New("server away")}, codes.Aborted, "server away"},
		"deadline":      {context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		"anything":      {errors.New("disk"), codes.Unknown, "configure: disk"},
		"unavailable":   {status.Error(codes.Unavailable, "would look like a dead plugin"), codes.Unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := connect(t, &fake{configure: func(Settings) error { return test.err }})
			_, err := c.Plugin.Configure(t.Context(), configureRequest())
			want(t, err, test.code, test.text)
		})
	}
}

func TestOnlyTheNewestWatermarksAreSent(t *testing.T) {
	t.Parallel()
	marks := make([]Watermark, 100)
	for i := range marks {
		marks[i].Sequence = uint64(i)
	}
	c, _ := connect(t, &fake{watermarks: func() ([]Watermark, error) { return marks, nil }})
	r, err := c.Plugin.Configure(t.Context(), configureRequest())
	if err != nil || len(r.Watermarks) != 64 || r.Watermarks[63].Sequence != 99 {
		t.Errorf("got %d watermarks, the last %v (%v), want 64 up to 99", len(r.GetWatermarks()), r.GetWatermarks(), err)
	}
}

func TestAReadOnlyPluginTakesNoBatch(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, &fake{})
	r := configureRequest()
	r.ReadOnly = true
	if _, err := c.Plugin.Configure(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	_, err := c.Sink.Apply(t.Context(), request(t, batchOf(1)))
	want(t, err, codes.FailedPrecondition, "read-only")
}

func TestHealthIsToldInWords(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, &fake{health: func() error { return errors.New("disk full\xff") }})
	r, err := c.Plugin.Health(t.Context(), &wire.HealthRequest{})
	if err != nil || r.State != wire.HealthResponse_DEGRADED || r.Text != "disk full\ufffd" {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestDrainWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	entered, order := make(chan string), make(chan string, 3)
	wait := func(ctx context.Context, name string) error {
		entered <- name
		<-ctx.Done()
		order <- name
		return ctx.Err()
	}
	c, _ := ready(t, &fake{
		apply: func(ctx context.Context, _ *Batch) error { return wait(ctx, "apply") },
		query: func(ctx context.Context, _ func(*wire.QueryPage) error) error { return wait(ctx, "query") },
		drain: func() error { order <- "drain"; return nil },
	})
	var calls sync.WaitGroup
	calls.Go(func() { _, _ = c.Sink.Apply(t.Context(), request(t, batchOf(1))) })
	calls.Go(func() {
		if stream, err := c.Store.Query(t.Context(), &wire.Query{}); err == nil {
			_, _ = stream.Recv()
		}
	})
	<-entered
	<-entered
	if _, err := c.Plugin.Drain(t.Context(), &wire.DrainRequest{}); err != nil {
		t.Fatalf("drain: %v", err)
	}
	calls.Wait()
	if first, second := <-order, <-order; first == "drain" || second == "drain" {
		t.Error("Drain was called while other calls ran")
	}
}

func TestAPluginThatWasNeverConfiguredIsNotDrained(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, &fake{drain: func() error { t.Error("Drain was called"); return nil }})
	_, err := c.Plugin.Drain(t.Context(), &wire.DrainRequest{})
	want(t, err, codes.OK, "")
	_, err = c.Plugin.Configure(t.Context(), configureRequest())
	want(t, err, codes.FailedPrecondition, "configure")
}

func TestADrainThatCameTooSoonMayBeRepeated(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	var running atomic.Bool
	var drains atomic.Int32
	c, _ := ready(t, &fake{
		apply: func(context.Context, *Batch) error {
			running.Store(true)
			close(entered)
			<-release
			running.Store(false)
			return nil
		},
		drain: func() error {
			if running.Load() {
				t.Error("Drain was called while Apply ran")
			}
			drains.Add(1)
			return nil
		},
	})
	var calls sync.WaitGroup
	calls.Go(func() { _, _ = c.Sink.Apply(t.Context(), request(t, batchOf(1))) })
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Plugin.Drain(ctx, &wire.DrainRequest{})
	want(t, err, codes.DeadlineExceeded, "")
	close(release)
	calls.Wait()
	_, err = c.Plugin.Drain(t.Context(), &wire.DrainRequest{})
	want(t, err, codes.OK, "")
	if drains.Load() != 1 {
		t.Errorf("drained %d times, want 1", drains.Load())
	}
}
