package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/picosnitch/picosnitch/sdk/dial"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// misbehave does what the name says, before or instead of a handshake; false if it says nothing.
func misbehave(name string) bool {
	certificate, dir := strings.Repeat("A", 100), os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
	lines := map[string]string{
		"garbage":  "\x00\x1b[2J hello",
		"nothing":  "",
		"old-wire": fmt.Sprintf("1|0|unix|%s/s|grpc|%s", dir, certificate),
		"no-tls":   fmt.Sprintf("1|1|unix|%s/s|grpc|", dir),
		"bad-cert": fmt.Sprintf("1|1|unix|%s/s|grpc|%s", dir, certificate),
		"tcp":      "1|1|tcp|127.0.0.1:80|grpc|" + certificate,
		"docker":   "1|1|unix|/run/docker.sock|grpc|" + certificate,
	}
	if line, ok := lines[name]; ok {
		fmt.Println(line)
		time.Sleep(time.Hour)
		return true
	}
	if name == "huge" {
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: dial.Handshake(),
			Plugins:         plugin.PluginSet{dial.PluginName: huge{}},
			GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
				return grpc.NewServer(append(o, grpc.ForceServerCodecV2(hugeCodec{encoding.GetCodecV2("proto")}))...)
			},
		})
		return true
	}
	return false
}

// huge is a plugin that answers with 2 GiB.
type huge struct {
	plugin.NetRPCUnsupportedPlugin
	wire.UnimplementedPluginServer
}

func (huge) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wire.RegisterPluginServer(s, huge{})
	return nil
}

func (huge) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func (huge) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeResponse, error) {
	return &wire.DescribeResponse{}, nil
}

// hugeCodec encodes the answer to Describe as 2 GiB of nothing, which takes no memory of its own.
type hugeCodec struct{ encoding.CodecV2 }

func (c hugeCodec) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*wire.DescribeResponse); !ok {
		return c.CodecV2.Marshal(v)
	}
	zeroes, err := unix.Mmap(-1, 0, 1<<31-1, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(zeroes)}, nil
}
