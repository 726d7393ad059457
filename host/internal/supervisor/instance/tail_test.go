package instance

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestLinesAreUnderstoodOrLeftAlone(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		level slog.Level
		text  string
	}{
		`{"time":"x","level":"INFO","msg":"opened","rows":3,"file":"a b"}`: {slog.LevelInfo, "opened file=a b rows=3"},
		`{"level":"ERROR","msg":"new\nline\u001b[0m"}`:                     {slog.LevelError, `new\x0aline\x1b[0m`},
		`{"level":7,"msg":"odd level"}`:                                    {slog.LevelWarn, "odd level"},
		`{"@level":"debug","@message":"address","@timestamp":"x","n":1}`:   {slog.LevelDebug, "address n=1"},
		`{"msg":1}`:                 {slog.LevelWarn, `{"msg":1}`},
		`{"msg":"x","a":{"b":[1]}}`: {slog.LevelWarn, `x a={"b":[1]}`},
		"plain \x00":                {slog.LevelWarn, `plain \x00`},
		`{broken`:                   {slog.LevelWarn, `{broken`},
		"":                          {slog.LevelWarn, ""},
	} {
		if level, text := parse([]byte(line), slog.LevelWarn); level != want.level || text != want.text {
			t.Errorf("%q: %v %q, want %v %q", line, level, text, want.level, want.text)
		}
	}
}

func TestTailKeepsTheEndAndTheBeginningOfACrash(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 300 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	text.WriteString("panic: oh\n\ngoroutine 1:\n")
	for i := range 300 {
		fmt.Fprintf(&text, "frame %d\n", i)
	}
	tail := newTail(quiet())
	tail.read(strings.NewReader(text.String()))
	if lines := tail.last(1000); len(lines) != tailLines || lines[tailLines-1] != "frame 299" || lines[0] != "frame 100" {
		t.Errorf("%d lines from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
	if lines := tail.last(2); len(lines) != 2 || lines[0] != "frame 298" {
		t.Errorf("last two: %q", lines)
	}
	if crash := tail.crashed(); len(crash) != crashLines || crash[0] != "panic: oh" {
		t.Errorf("crash of %d lines: %q", len(crash), crash[0])
	}
}

func TestLongLinesAreCutAndFloodsAreCounted(t *testing.T) {
	t.Parallel()
	tail := newTail(quiet())
	tail.read(strings.NewReader(strings.Repeat("x", 100_000) + "\nshort\n"))
	if lines := tail.last(10); len(lines) != 2 || len(lines[0]) != lineBytes || lines[1] != "short" {
		t.Errorf("%d lines", len(lines))
	}
	line := []byte(strings.Repeat("y", 4000))
	kept := 0
	for range 1000 {
		if tail.take(line, false) {
			kept++
		}
	}
	if kept > 90 || tail.dropped != uint64(1000-kept) {
		t.Errorf("%d lines kept, %d counted as dropped", kept, tail.dropped)
	}
}

func TestFloodsThatGoPluginForwardsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tail := newTail(quiet())
		begun := time.Now()
		if n, err := tail.Write([]byte("one\ntwo\n")); n != 8 || err != nil || time.Since(begun) != 0 {
			t.Errorf("%d, %v, after %v", n, err, time.Since(begun))
		}
		flood := []byte(strings.Repeat("z\n", 4<<20))
		if n, err := tail.Write(flood); n != len(flood) || err != nil || time.Since(begun) < time.Second {
			t.Errorf("%d, %v, after %v", n, err, time.Since(begun))
		}
	})
}

func TestHandshakeIsCheckedBeforeGoPluginSeesIt(t *testing.T) {
	t.Parallel()
	certificate := strings.Repeat("A", 200)
	if err := checkHandshake("1|1|unix|/run/x/s|grpc|" + certificate); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		"", "1|1|unix|/run/x/s", "2|1|unix|/s|grpc|" + certificate, "1|2|unix|/s|grpc|" + certificate,
		"1|1|tcp|127.0.0.1:1|grpc|" + certificate, "1|1|unix|/s|netrpc|" + certificate, "1|1|unix|/s|grpc|short",
	} {
		if checkHandshake(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, address := range []string{"/run/docker.sock", "/run/x/../docker.sock", "/run/x/deep/s", "/run/x", "x", ""} {
		if checkAddress("unix", address, "/run/x", 0) == nil {
			t.Errorf("address %q was taken", address)
		}
	}
}
