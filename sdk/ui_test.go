package sdk

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// page is an interface that is a function.
type page struct {
	Base
	serve   func(context.Context) error
	drained func()
}

func (*page) Describe() Description { return Description{Name: "page", Version: "1"} }

func (p *page) Serve(ctx context.Context) error {
	if p.serve == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return p.serve(ctx)
}

func (p *page) Drain(context.Context) error {
	if p.drained != nil {
		p.drained()
	}
	return nil
}

func TestAnInterfaceRunsFromConfigureToDrain(t *testing.T) {
	t.Parallel()
	began, order := make(chan struct{}), make(chan string, 2)
	c, logged := ready(t, &page{
		serve: func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			order <- "serve"
			return errors.New("closing")
		},
		drained: func() { order <- "drain" },
	})
	<-began
	_, err := c.Plugin.Drain(t.Context(), &wire.DrainRequest{})
	want(t, err, codes.OK, "")
	if first, second := <-order, <-order; first != "serve" || second != "drain" {
		t.Errorf("%s ended before %s", first, second)
	}
	if logged.String() != "" {
		t.Errorf("a usual end is logged: %s", logged)
	}
}

func TestAnInterfaceThatEndsTakesThePluginWithIt(t *testing.T) {
	t.Parallel()
	for words, serve := range map[string]func(context.Context) error{
		"address in use":                    func(context.Context) error { return errors.New("address in use") },
		"it returned before it was drained": func(context.Context) error { return nil },
		"panic: odd":                        func(context.Context) error { panic("odd") },
	} {
		logged := &lockedBuffer{}
		s := newServer(&page{serve: serve}, slog.New(slog.NewJSONHandler(logged, nil)))
		stopped := make(chan struct{})
		s.onAbandon(func() { close(stopped) })
		if _, err := s.Configure(t.Context(), configureRequest()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-stopped:
		case <-time.After(30 * time.Second):
			t.Fatal("the plugin goes on without its interface")
		}
		if !s.abandoned() || !strings.Contains(logged.String(), words) {
			t.Errorf("abandoned %v, logged %s, want %q", s.abandoned(), logged, words)
		}
		called := false
		s.onAbandon(func() { called = true })
		if !called {
			t.Error("who is served later is not told that the plugin gave up")
		}
	}
}
