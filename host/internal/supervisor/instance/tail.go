package instance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

// Bounds of what is kept of a plugin's words.
const (
	tailLines  = 200
	crashLines = 40
	lineBytes  = 4096
	keepRate   = 64 << 10  // bytes kept per second
	keepBurst  = 256 << 10 // after silence
	readRate   = 4 << 20   // bytes read per second beyond that: a flooder waits, the host's processor does not
)

// tail takes what a plugin says, forwards it to the log, and keeps the end of it and the beginning of a crash.
type tail struct {
	log   *slog.Logger
	plain slog.Level // of lines that are no JSON

	mu      sync.Mutex
	lines   []string // a ring, once full
	next    int
	crash   []string // from the first line of a panic or of a stack dump
	tokens  float64
	filled  time.Time
	dropped uint64 // lines since the last one kept
}

func newTail(log *slog.Logger) *tail {
	return &tail{log: log, plain: slog.LevelWarn, tokens: keepBurst, filled: time.Now()}
}

// read takes lines until r ends. A longer line than lineBytes is cut.
func (t *tail) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, lineBytes)
	rest := false // of a line that was cut
	for {
		line, prefix, err := lines.ReadLine()
		if err != nil {
			return
		}
		if !t.take(line, rest) {
			time.Sleep(time.Duration(len(line)+1) * time.Second / readRate)
		}
		rest = prefix
	}
}

// take keeps a line if the rate allows.
func (t *tail) take(line []byte, rest bool) bool {
	t.mu.Lock()
	now := time.Now()
	t.tokens = min(keepBurst, t.tokens+now.Sub(t.filled).Seconds()*keepRate)
	t.filled = now
	if t.tokens < float64(len(line)+1) || rest {
		if !rest {
			t.dropped++
		}
		t.mu.Unlock()
		return false
	}
	t.tokens -= float64(len(line) + 1)
	dropped := t.dropped
	t.dropped = 0
	level, text := parse(line, t.plain)
	if dropped > 0 {
		t.keepLocked(fmt.Sprintf("(%d lines dropped: too many)", dropped))
	}
	t.keepLocked(text)
	t.mu.Unlock()
	if dropped > 0 {
		t.log.Warn("plugin writes too much", "lines_dropped", dropped)
	}
	t.log.Log(context.Background(), level, text)
	return true
}

func (t *tail) keepLocked(text string) {
	if len(t.crash) > 0 && len(t.crash) < crashLines || len(t.crash) == 0 && beginsCrash(text) {
		t.crash = append(t.crash, text)
	}
	if len(t.lines) < tailLines {
		t.lines = append(t.lines, text)
		return
	}
	t.lines[t.next] = text
	t.next = (t.next + 1) % tailLines
}

func beginsCrash(text string) bool {
	for _, begin := range []string{"panic: ", "fatal error: ", "SIGQUIT: ", "runtime: ", "Traceback "} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return false
}

// last returns up to n lines, oldest first.
func (t *tail) last(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...)
	return all[max(0, len(all)-n):]
}

func (t *tail) crashed() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.crash...)
}

// Write takes what go-plugin forwards of a plugin's replaced standard output and error; a part of a line counts as one. A
// flooder waits here too.
func (t *tail) Write(data []byte) (int, error) {
	dropped := 0
	for line := range bytes.Lines(data) {
		if !t.take(bytes.TrimRight(line[:min(len(line), lineBytes)], "\r\n"), false) {
			dropped += len(line)
		}
	}
	time.Sleep(time.Duration(dropped) * time.Second / readRate)
	return len(data), nil
}

// errHandshakeLong answers a first line without end.
var errHandshakeLong = errors.New("its first line has no end")

// firstLine reads one line of at most 16 KiB; the rest stays in the reader returned.
func firstLine(r io.Reader) (string, *bufio.Reader, error) {
	buffered := bufio.NewReaderSize(r, 16<<10)
	line, err := buffered.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", buffered, errHandshakeLong
	}
	return strings.TrimSpace(string(line)), buffered, err
}

// clean bounds and escapes text that came from a plugin.
func clean(text string) string {
	const limit = 1024
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return sdk.EscapeString(text)
}
