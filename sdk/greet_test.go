package sdk

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// identity is a host's certificate as it goes into the environment, and what the host then dials with. It is made as a
// plugin makes its own.
func identity(t *testing.T) (text string, own tls.Certificate) {
	t.Helper()
	config, err := tlsFor("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	if err != nil {
		t.Fatal(err)
	}
	own = config.Certificates[0]
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})), own
}

func TestOnlyTheHostThatStartedAPluginMayTalkToIt(t *testing.T) {
	t.Parallel()
	text, host := identity(t)
	_, stranger := identity(t)
	hello, err := greet(func(name string) string {
		return map[string]string{"PLUGIN_CLIENT_CERT": text, "PLUGIN_UNIX_SOCKET_DIR": t.TempDir(), "PLUGIN_PROTOCOL_VERSIONS": "7,1"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(hello.options...)
	registerHandshake(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(hello.listener) }()
	parts := strings.Split(strings.TrimSpace(hello.line), "|")
	der, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || strings.Join(parts[:3], "|") != "1|1|unix" || parts[4] != "grpc" {
		t.Fatalf("line %q, %v", hello.line, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for name, c := range map[string]struct {
		certificates []tls.Certificate
		welcome      bool
	}{"the host": {[]tls.Certificate{host}, true}, "a stranger": {[]tls.Certificate{stranger}, false}, "nobody": {nil, false}} {
		conn, err := grpc.NewClient("unix:"+parts[3], grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			Certificates: c.certificates, RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12,
		})))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
		if (err == nil) != c.welcome {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		_ = conn.Close()
	}
	g.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestAHostThatSpeaksAnotherWireIsToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := greet(func(name string) string {
		return map[string]string{"PLUGIN_PROTOCOL_VERSIONS": "2,3"}[name]
	})
	if err == nil || !strings.Contains(err.Error(), "2,3") {
		t.Errorf("error %v", err)
	}
}
