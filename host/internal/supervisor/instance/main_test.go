package instance_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/sdk/dial"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// TestMain makes this binary host, launcher and plugin. A plugin knows its part by its name.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == launch.Verb {
		os.Exit(launch.Main(os.Args[2:]))
	}
	if os.Getenv(sdk.CookieKey) != "" {
		act(os.Args[0])
		return
	}
	os.Exit(m.Run())
}

// act is what the plugin of a name does.
func act(name string) {
	socketDir := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
	certificate := strings.Repeat("A", 100)
	switch name {
	case "good":
		serve()
	case "odd-log":
		fmt.Fprintln(os.Stderr, `{"@message":1}`)
		fmt.Fprintln(os.Stderr, `{"@message":{"a":[]},"@level":2,"@timestamp":3}`)
		fmt.Fprintln(os.Stderr, `{"time":1,"level":{},"msg":[1]}`)
		fmt.Fprintln(os.Stderr, "\x1b[31mred\x00\xff")
		serve()
	case "bad-cert":
		listen(certificate)
	case "no-cert":
		fmt.Printf("1|1|unix|%s/s|grpc|\n", socketDir)
		time.Sleep(time.Minute)
	case "docker":
		fmt.Printf("1|1|unix|/run/docker.sock|grpc|%s\n", certificate)
		time.Sleep(time.Minute)
	case "tcp":
		fmt.Printf("1|1|tcp|127.0.0.1:80|grpc|%s\n", certificate)
		time.Sleep(time.Minute)
	case "link":
		_ = os.Symlink("/run/docker.sock", socketDir+"/s")
		fmt.Printf("1|1|unix|%s/s|grpc|%s\n", socketDir, certificate)
		time.Sleep(time.Minute)
	case "wrong-wire":
		fmt.Printf("1|99|unix|%s/s|grpc|%s\n", socketDir, certificate)
		time.Sleep(time.Minute)
	case "chatty":
		fmt.Println("hello, I am a plugin")
		time.Sleep(time.Minute)
	case "endless":
		for {
			fmt.Print(strings.Repeat("x", 4096))
		}
	case "silent":
		time.Sleep(time.Minute)
	case "mute":
		listen(makeCertificate())
	case "panics":
		panic("no cheese left")
	case "flood":
		go func() {
			for {
				fmt.Fprintln(os.Stderr, strings.Repeat("flood ", 20))
			}
		}()
		serve()
	case "parent":
		child := exec.Command("/bin/sleep", "30")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of the group that is killed
		child.Stdout, child.Stderr = os.NewFile(1, "1"), os.NewFile(2, "2")
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stderr, child.Process.Pid)
		serve()
	}
}

// listen shakes hands and never answers.
func listen(certificate string) {
	l, err := net.Listen("unix", os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/s")
	if err != nil {
		panic(err)
	}
	fmt.Printf("1|1|unix|%s|grpc|%s\n", l.Addr(), certificate)
	time.Sleep(time.Minute)
}

func makeCertificate() string {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		panic(err)
	}
	return base64.RawStdEncoding.EncodeToString(raw)
}

func serve() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: dial.Handshake(),
		Plugins:         plugin.PluginSet{dial.PluginName: served{}},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}

// served is a plugin below the SDK, which would not let it misbehave.
type served struct{ plugin.NetRPCUnsupportedPlugin }

func (served) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	wire.RegisterPluginServer(s, &odd{})
	return nil
}

func (served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

type odd struct{ wire.UnimplementedPluginServer }

func (*odd) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeResponse, error) {
	return &wire.DescribeResponse{Name: "odd", Wire: wire.Version, Kinds: []string{"sink"}}, nil
}

// Health answers with more than the host may take.
func (*odd) Health(context.Context, *wire.HealthRequest) (*wire.HealthResponse, error) {
	return &wire.HealthResponse{Text: strings.Repeat("x", 64<<20)}, nil
}

// Configure says something on the replaced standard output.
func (*odd) Configure(context.Context, *wire.ConfigureRequest) (*wire.ConfigureResponse, error) {
	fmt.Println("said by println")
	return &wire.ConfigureResponse{}, nil
}

// self opens this binary as a plugin.
func self(t testing.TB) *executable.File {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path, err = filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := executable.Open(path, executable.Rules{Host: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// options starts a plain child of a name, with a short directory: socket paths are.
func options(t testing.TB, name string) instance.Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps")
	if err != nil {
		t.Fatal(err)
	}
	thread := process.NewThread()
	t.Cleanup(func() {
		thread.Close()
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the socket directory: %v, %v", left, err)
		}
		_ = os.RemoveAll(dir)
	})
	return instance.Options{
		Name: name, File: self(t), Thread: thread, SocketDir: dir, Timeout: 20 * time.Second,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func start(t testing.TB, o instance.Options) *instance.Instance {
	t.Helper()
	i, err := instance.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func describe(t testing.TB, i *instance.Instance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := i.Client.Plugin.Describe(ctx, &wire.DescribeRequest{Wire: wire.Version}); err != nil {
		t.Fatalf("describe: %v", err)
	}
}
