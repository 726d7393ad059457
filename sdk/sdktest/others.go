package sdktest

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// judges holds what gives verdicts to the form of its answers. What it says of an unknown file is its own business.
func judges(t *testing.T, o Options) {
	p := start(t, o)
	p.configure(o, NewStream(1), t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := p.Verdicts.Judge(ctx, &wire.JudgeRequest{Sha256: []byte("short")}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("judge a hash of 5 bytes: %v, want %v", err, codes.InvalidArgument)
	}
}

// locates asks where some addresses lie.
func locates(t *testing.T, o Options) {
	p := start(t, o)
	p.configure(o, NewStream(1), t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	ips := [][]byte{{127, 0, 0, 1}, make([]byte, 16), {192, 0, 2, 1}}
	r, err := p.Locator.Locate(ctx, &wire.LocateRequest{Ips: ips})
	if err != nil || len(r.GetLocations()) != len(ips) {
		t.Errorf("%d locations for %d addresses, %v", len(r.GetLocations()), len(ips), err)
	}
	if _, err := p.Locator.Locate(ctx, &wire.LocateRequest{Ips: [][]byte{{1, 2, 3}}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("locate an address of 3 bytes: %v, want %v", err, codes.InvalidArgument)
	}
}

// drainsSoon drains a plugin that is no sink, as an interface for people is.
func drainsSoon(t *testing.T, o Options) {
	p := start(t, o)
	p.configure(o, NewStream(1), t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := p.Plugin.Drain(ctx, &wire.DrainRequest{}); err != nil {
		t.Errorf("drain: %v", err)
	}
}
