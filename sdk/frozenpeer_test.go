package sdk_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// frozenPlugin serves a plugin of the frozen definitions: it takes whatever they can read, and answers with the frozen
// message of the answer's type.
func frozenPlugin(t *testing.T, f frozen) *sdk.Client {
	t.Helper()
	handle := func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		d, err := f.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")))
		if err != nil {
			return err
		}
		m := d.(protoreflect.MethodDescriptor)
		request := dynamicpb.NewMessage(m.Input())
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		if len(request.GetUnknown()) > 0 {
			return errors.New("the host relies on what the frozen plugin does not know")
		}
		answer := dynamicpb.NewMessage(m.Output())
		if err := proto.Unmarshal(f.messages[string(m.Output().Name())][0], answer); err != nil {
			return err
		}
		return stream.SendMsg(answer)
	}
	g := grpc.NewServer(grpc.UnknownServiceHandler(handle))
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:frozen", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
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
	return sdk.NewClient(conn)
}

// TestThisHostTalksToAFrozenPlugin calls every method of a plugin through the client that the host uses.
func TestThisHostTalksToAFrozenPlugin(t *testing.T) {
	t.Parallel()
	f := openFrozen(t)
	c, ctx := frozenPlugin(t, f), t.Context()
	request := func(name string) proto.Message {
		return current(t, protoreflect.FullName(wirePackage+name), f.messages[name][0])
	}
	first := func(stream interface{ RecvMsg(any) error }, err error, into proto.Message) (proto.Message, error) {
		if err == nil {
			err = stream.RecvMsg(into)
		}
		return into, err
	}
	imports := func() (proto.Message, error) {
		stream, err := c.Keeper.Import(ctx)
		if err == nil {
			err = stream.Send(request("ImportPiece").(*wire.ImportPiece))
		}
		return first(stream, err, &wire.ImportProgress{})
	}
	for name, call := range map[string]func() (proto.Message, error){
		"DescribeResponse": func() (proto.Message, error) {
			return c.Plugin.Describe(ctx, request("DescribeRequest").(*wire.DescribeRequest))
		},
		"ConfigureResponse": func() (proto.Message, error) {
			return c.Plugin.Configure(ctx, request("ConfigureRequest").(*wire.ConfigureRequest))
		},
		"HealthResponse": func() (proto.Message, error) { return c.Plugin.Health(ctx, &wire.HealthRequest{}) },
		"DrainResponse":  func() (proto.Message, error) { return c.Plugin.Drain(ctx, &wire.DrainRequest{}) },
		"ApplyResponse":  func() (proto.Message, error) { return c.Sink.Apply(ctx, request("ApplyRequest").(*wire.ApplyRequest)) },
		"JudgeResponse": func() (proto.Message, error) {
			return c.Verdicts.Judge(ctx, request("JudgeRequest").(*wire.JudgeRequest))
		},
		"LocateResponse": func() (proto.Message, error) {
			return c.Locator.Locate(ctx, request("LocateRequest").(*wire.LocateRequest))
		},
		"QueryPage": func() (proto.Message, error) {
			stream, err := c.Store.Query(ctx, request("Query").(*wire.Query))
			return first(stream, err, &wire.QueryPage{})
		},
		"Piece": func() (proto.Message, error) {
			stream, err := c.Keeper.Export(ctx, request("ExportRequest").(*wire.ExportRequest))
			return first(stream, err, &wire.Piece{})
		},
		"CheckPage": func() (proto.Message, error) {
			stream, err := c.Keeper.Check(ctx, request("CheckRequest").(*wire.CheckRequest))
			return first(stream, err, &wire.CheckPage{})
		},
		"CompactProgress": func() (proto.Message, error) {
			stream, err := c.Keeper.Compact(ctx, request("CompactRequest").(*wire.CompactRequest))
			return first(stream, err, &wire.CompactProgress{})
		},
		"EvidencePage": func() (proto.Message, error) {
			stream, err := c.Keeper.Evidence(ctx, request("EvidenceRequest").(*wire.EvidenceRequest))
			return first(stream, err, &wire.EvidencePage{})
		},
		"ImportProgress": imports,
	} {
		got, err := call()
		want := current(t, protoreflect.FullName(wirePackage+name), f.messages[name][0])
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%s: %v, -want +got:\n%s", name, err, diff)
		}
	}
}

// TestAFrozenHostTalksToThisPlugin starts a plugin of this SDK and speaks with it in the frozen words.
func TestAFrozenHostTalksToThisPlugin(t *testing.T) {
	t.Parallel()
	f := openFrozen(t)
	cmd := command(t, "store", true)
	stdin, err := cmd.StdinPipe() // its end ends the plugin
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, err := out.Read(line)
	fields := strings.Split(string(line[:n]), "|")
	if err != nil || len(fields) < 5 {
		t.Fatalf("handshake %q, %v", line[:n], err)
	}
	conn, err := grpc.NewClient("unix:"+fields[3], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	call := func(method, requestName string, fields map[string]any) *dynamicpb.Message {
		t.Helper()
		request := f.decode(t, protoreflect.FullName(wirePackage+requestName), nil)
		for name, value := range fields {
			request.Set(request.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(value))
		}
		answer := f.decode(t, protoreflect.FullName(wirePackage+strings.TrimSuffix(requestName, "Request")+"Response"), nil)
		if err := conn.Invoke(ctx, "/"+wirePackage+method, request, answer); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		return answer
	}
	describe := text(t, call("Plugin/Describe", "DescribeRequest", map[string]any{"wire": uint32(1)}))
	if !strings.Contains(describe, `"sink"`) || !strings.Contains(describe, `"file"`) {
		t.Errorf("describe: %s", describe)
	}
	call("Plugin/Configure", "ConfigureRequest", map[string]any{"host_id": make([]byte, 16), "boot_id": make([]byte, 16),
		"epoch": make([]byte, 16), "directory": t.TempDir()})
	apply := text(t, call("Sink/Apply", "ApplyRequest", map[string]any{"codec": uint32(1), "batch": readFrozen(t, "batch.binpb")}))
	if !strings.Contains(apply, `"acknowledged"`) || !strings.Contains(apply, `"139"`) {
		t.Errorf("apply: %s", apply)
	}
	if health := text(t, call("Plugin/Health", "HealthRequest", nil)); !strings.Contains(health, `"OK"`) {
		t.Errorf("health: %s", health)
	}
	call("Plugin/Drain", "DrainRequest", nil)
	if err := errors.Join(conn.Close(), stdin.Close()); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
