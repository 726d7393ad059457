package capture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// line is one event of a recording: exactly one field is set.
type line struct {
	Process   *Process   `json:"process,omitempty"`
	Exit      *Exit      `json:"exit,omitempty"`
	Payload   *Payload   `json:"payload,omitempty"`
	Lookup    *Lookup    `json:"lookup,omitempty"`
	Uncounted *Uncounted `json:"uncounted,omitempty"`
	Window    *Window    `json:"window,omitempty"`
}

// Recorder is a [Source] that writes down, as one JSON object a line, what another one gives.
type Recorder struct {
	Source
	out *json.Encoder
}

// NewRecorder records source into w.
func NewRecorder(source Source, w io.Writer) *Recorder {
	return &Recorder{Source: source, out: json.NewEncoder(w)}
}

// Next implements [Source].
func (r *Recorder) Next(ctx context.Context) (Event, error) {
	event, err := r.Source.Next(ctx)
	if err != nil {
		return nil, err
	}
	var l line
	switch e := event.(type) {
	case *Process:
		l.Process = e
	case *Exit:
		l.Exit = e
	case *Payload:
		l.Payload = e
	case *Lookup:
		l.Lookup = e
	case *Uncounted:
		l.Uncounted = e
	case *Window:
		l.Window = e
	}
	if err := r.out.Encode(l); err != nil {
		return nil, fmt.Errorf("record event: %w", err)
	}
	return event, nil
}

// Replay is a [Source] that gives what a [Recorder] wrote down. It keeps the promises of a Source: after a window comes
// nothing before that has been released.
type Replay struct {
	lines *bufio.Scanner
	count int

	mu        sync.Mutex
	released  chan struct{} // closed when no window is out
	held      uint64
	closed    bool
	forgotten []Key
}

// maxLine bounds one event of a recording.
const maxLine = 64 << 20

// NewReplay replays what r holds.
func NewReplay(r io.Reader) *Replay {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	return &Replay{lines: lines, released: closedChannel()}
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Next implements [Source].
func (r *Replay) Next(ctx context.Context) (Event, error) {
	r.mu.Lock()
	released := r.released
	r.mu.Unlock()
	select {
	case <-released:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return nil, fmt.Errorf("read recording: %w", err)
		}
		return nil, io.EOF
	}
	r.count++
	var l line
	if err := json.Unmarshal(r.lines.Bytes(), &l); err != nil {
		return nil, fmt.Errorf("read recording, line %d: %w", r.count, err)
	}
	switch {
	case l.Process != nil:
		return l.Process, nil
	case l.Exit != nil:
		return l.Exit, nil
	case l.Payload != nil:
		return l.Payload, nil
	case l.Lookup != nil:
		return l.Lookup, nil
	case l.Uncounted != nil:
		return l.Uncounted, nil
	case l.Window != nil:
		r.held, r.released = l.Window.Generation, make(chan struct{})
		return l.Window, nil
	}
	return nil, fmt.Errorf("read recording, line %d: %w", r.count, errNoEvent)
}

var errNoEvent = errors.New("no event in it")

// Release implements [Source].
func (r *Replay) Release(generation uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != generation {
		return fmt.Errorf("release window: generation %d is not out, %d is", generation, r.held)
	}
	r.held = 0
	close(r.released)
	return nil
}

// Forget implements [Source].
func (r *Replay) Forget(keys []Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten = append(r.forgotten, keys...)
	return nil
}

// Forgotten gives what Forget was told.
func (r *Replay) Forgotten() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.forgotten
}

// Close implements [Source]; events not yet given are left out.
func (r *Replay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}
