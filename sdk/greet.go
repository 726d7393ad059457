package sdk

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// The plugin's half of go-plugin's handshake, as docs/wire.md has it. That of go-plugin itself brings net/rpc, which keeps
// every method of every type in the program: 2.5 MB of each plugin's memory.

// What a host has in the environment of a plugin, so that a person who starts one by hand is told what it is. It is no
// protection.
const (
	CookieKey   = "PICOSNITCH_PLUGIN"
	CookieValue = "2d0c5b8a-picosnitch-wire"
)

// greeting is a socket that a host may connect to, and the line that tells it where and how.
type greeting struct {
	listener net.Listener
	options  []grpc.ServerOption
	line     string
}

// greet listens. getenv is the environment that the host made; without the host's certificate in it, which only tests leave
// out, there is no TLS.
func greet(getenv func(string) string) (g greeting, err error) {
	if versions := getenv("PLUGIN_PROTOCOL_VERSIONS"); versions != "" && !slices.Contains(strings.Split(versions, ","), strconv.Itoa(wire.Version)) {
		return g, fmt.Errorf("the host speaks wire versions %s, this plugin %d", clip(versions), wire.Version)
	}
	certificate := ""
	if host := getenv("PLUGIN_CLIENT_CERT"); host != "" {
		config, err := tlsFor(host)
		if err != nil {
			return g, err
		}
		g.options = append(g.options, grpc.Creds(credentials.NewTLS(config)))
		certificate = base64.RawStdEncoding.EncodeToString(config.Certificates[0].Certificate[0])
	}
	dir := getenv("PLUGIN_UNIX_SOCKET_DIR")
	if dir == "" {
		dir = os.TempDir()
	}
	if g.listener, err = net.Listen("unix", filepath.Join(dir, "plugin"+rand.Text()[:10])); err != nil {
		return g, fmt.Errorf("listen for the host: %w", err)
	}
	g.line = fmt.Sprintf("1|%d|unix|%s|grpc|%s\n", wire.Version, g.listener.Addr(), certificate)
	return g, nil
}

// tlsFor is a new key, and nobody's trust but the host's.
func tlsFor(hostPEM string) (*tls.Config, error) {
	block, _ := pem.Decode([]byte(hostPEM))
	if block == nil {
		return nil, errors.New("PLUGIN_CLIENT_CERT is no certificate")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(30, 0, 0), // the clock may be set while it runs
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert, // this one:
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 || !bytes.Equal(c.PeerCertificates[0].Raw, block.Bytes) {
				return errors.New("a client that is not the host")
			}
			return nil
		},
	}, nil
}

// registerHandshake offers what go-plugin asks for before anything of ours, and at the end.
func registerHandshake(g *grpc.Server) {
	up := health.NewServer()
	up.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(g, up)
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "plugin.GRPCController", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Shutdown", Handler: func(
			_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
		) (any, error) {
			go g.Stop() // it waits for this call
			return &emptypb.Empty{}, decode(&emptypb.Empty{})
		}}},
	}, nil)
}
