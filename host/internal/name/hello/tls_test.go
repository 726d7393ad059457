package hello

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// clientHello gives the first record that Go's own client sends.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Client(client, config).Handshake() }()
	if err := server.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	record := append(header, make([]byte, binary.BigEndian.Uint16(header[3:]))...)
	if _, err := io.ReadFull(server, record[recordHeader:]); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	<-done // ends with the error that the pipe is closed
	return record
}

func TestNameOfARealClientHello(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config *tls.Config
	}{
		{"TLS 1.3 with a hybrid key share", &tls.Config{ServerName: "www.example.org"}},
		{"TLS 1.2", &tls.Config{ServerName: "www.example.org", MaxVersion: tls.VersionTLS12}},
		{"protocols", &tls.Config{ServerName: "www.example.org", NextProtos: []string{"h2", "http/1.1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := FromRecords(clientHello(t, c.config))
			if err != nil || got != (Hello{Name: "www.example.org"}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestEveryBeginningAsksForMoreAndEverySplitGivesTheName(t *testing.T) {
	t.Parallel()
	whole := clientHello(t, &tls.Config{ServerName: "split.example.org"})
	for n := range len(whole) {
		h, err := FromRecords(whole[:n])
		if !errors.Is(err, ErrMore) || h.Name != "" && (h.Name != "split.example.org" || !h.Outer) {
			t.Fatalf("%d of %d bytes: %+v, %v", n, len(whole), h, err)
		}
	}
	for _, size := range []int{1, 2, 3, 5, 64, 100, 1000} {
		stream := append(records(whole[recordHeader:], size), 20, 3, 3, 0, 1, 1) // a change of cipher follows
		if h, err := FromRecords(stream); err != nil || h != (Hello{Name: "split.example.org"}) {
			t.Errorf("records of %d bytes: %+v, %v", size, h, err)
		}
	}
}

func TestOuterNameOfAnEncryptedClientHello(t *testing.T) {
	t.Parallel()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	record := clientHello(t, &tls.Config{
		ServerName: "secret.example.org", MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList: configList(key.PublicKey().Bytes(), "public.example.net"),
	})
	got, err := FromRecords(record)
	if err != nil || got != (Hello{Name: "public.example.net", Outer: true}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// configList is what a server publishes in DNS for encrypted client hellos (RFC 9849, section 4).
func configList(public []byte, name string) []byte {
	contents := []byte{7, 0, 0x20, 0, byte(len(public))} // id, DHKEM(X25519, HKDF-SHA256)
	contents = append(contents, public...)
	contents = append(contents, 0, 4, 0, 1, 0, 1) // HKDF-SHA256, AES-128-GCM
	contents = append(contents, 32, byte(len(name)))
	contents = append(append(contents, name...), 0, 0)
	config := append([]byte{0xfe, 0x0d, 0, byte(len(contents))}, contents...)
	return append([]byte{0, byte(len(config))}, config...)
}

func TestWhatIsNoClientHelloWithAName(t *testing.T) {
	t.Parallel()
	good := message(extension(10, []byte{1}), serverNameExtension("example.org"))
	if h, err := Parse(good); err != nil || h.Name != "example.org" {
		t.Fatalf("the good one: %+v, %v", h, err)
	}
	for name, stream := range map[string][]byte{
		"HTTP":                  []byte("GET / HTTP/1.1\r\n"),
		"SSH":                   []byte("SSH-2.0-x\r\n"),
		"SSL 2":                 {0x80, 0x2e, 1, 3, 1},
		"an alert":              {21, 3, 3, 0, 2, 1, 0},
		"a server hello":        records([]byte{2, 0, 0, 2, 3, 3}, 100),
		"an empty record":       {recordHandshake, 3, 1, 0, 0, 0},
		"a record too long":     {recordHandshake, 3, 1, 0xff, 0xff, 1},
		"a hello too long":      records([]byte{1, 0xff, 0xff, 0xff}, 100),
		"no extensions":         records(message()[:4+2+32+1+4+2], 100),
		"no server name":        records(message(extension(10, nil)), 1000),
		"two server names":      records(message(serverNameExtension("a.b"), serverNameExtension("c.d")), 1000),
		"an empty server name":  records(message(serverNameExtension("")), 1000),
		"a list that is cut":    records(message(extension(extServerName, []byte{0, 9, 0, 0, 9, 'x'})), 1000),
		"half a hello, then no": append(records(good[:20], 100), 23, 3, 3, 0, 1, 1),
	} {
		if name == "no extensions" {
			stream[8] = byte(len(stream) - recordHeader - 4)
		}
		if h, err := FromRecords(stream); !errors.Is(err, ErrNone) || h != (Hello{}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	for n := 4; n < len(good); n++ { // a length that says less than there is
		short := append([]byte(nil), good[:n]...)
		short[2], short[3] = 0, byte(n-4)
		if h, err := Parse(short); !errors.Is(err, ErrNone) {
			t.Errorf("cut to %d: %+v, %v", n, h, err)
		}
	}
}

// What real clients sent is in testdata/fuzz/FuzzTLS: a new hello each time would make each run another one.
func FuzzTLS(f *testing.F) {
	f.Add(records(message(serverNameExtension("example.org"), extension(extEncryptedHello, []byte{0})), 7))
	f.Fuzz(func(t *testing.T, stream []byte) {
		h, err := FromRecords(stream)
		if err == nil && h.Name == "" {
			t.Error("no error and no name")
		}
		if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrMore) {
			t.Errorf("an error of no kind: %v", err)
		}
		if errors.Is(err, ErrNone) && h != (Hello{}) {
			t.Errorf("%+v beside %v", h, err)
		}
		if len(h.Name) > len(stream) {
			t.Errorf("a name of %d bytes out of %d", len(h.Name), len(stream))
		}
	})
}
