package capture

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"
)

func testOptions(t testing.TB, instance string) Options {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to load BPF programs")
	}
	return Options{
		Instance: instance, Interval: time.Second, RingPages: 64, Secret: []byte("0123456789abcdef"),
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

func TestKernelCountsOwnTraffic(t *testing.T) {
	k, err := Open(testOptions(t, "test-count"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		l, _ := net.Listen("tcp", "127.0.0.1:0")
		go func() {
			c, _ := l.Accept()
			io.Copy(c, c)
			c.Close()
		}()
		c, _ := net.Dial("tcp", l.Addr().String())
		c.Write(make([]byte, 12345))
		io.ReadFull(c, make([]byte, 12345))
		c.Close()
		u, _ := net.ListenPacket("udp", "127.0.0.1:0")
		v, _ := net.ListenPacket("udp", "127.0.0.1:0")
		u.WriteTo(make([]byte, 77), v.LocalAddr())
		v.ReadFrom(make([]byte, 100))
		time.Sleep(1500 * time.Millisecond)
		k.Close()
	}()
	for {
		e, err := k.Next(ctx)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := e.(type) {
		case *Process:
			if e.Key.Tgid == uint32(os.Getpid()) || e.Attribution == 1 {
				t.Logf("%+v", e)
			}
		case *Window:
			t.Logf("window %d %v losses %v", e.Generation, time.Duration(e.End.Boot-e.Start.Boot), e.Losses)
			for _, f := range e.Flows {
				if f.Process.Tgid == uint32(os.Getpid()) {
					t.Logf("%+v", f)
				}
			}
			if err := k.Release(e.Generation); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// testWriter writes a test's log.
type testWriter struct{ testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.Logf("%s", line)
	return len(line), nil
}
