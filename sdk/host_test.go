package sdk

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

type hostService struct{ wire.UnimplementedHostServer }

func (hostService) Status(context.Context, *wire.StatusRequest) (*wire.StatusResponse, error) {
	return &wire.StatusResponse{Pid: 42}, nil
}

func TestThePluginAsksItsHost(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sdk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "host sock%1?")
	host, err := Host(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	_, err = host.Status(t.Context(), &wire.StatusRequest{})
	want(t, err, codes.Unavailable, "")

	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	wire.RegisterHostServer(g, hostService{})
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	status, err := host.Status(t.Context(), &wire.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil || status.GetPid() != 42 {
		t.Errorf("got %v, %v", status, err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	g.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := Host(""); !errors.Is(err, ErrNoHost) {
		t.Errorf("without a socket: %v", err)
	}
}
