package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

const (
	maxOrder = 32 << 10 // bytes of JSON; fits into a pipe
	maxReply = 64 << 10
	maxSaid  = 2 << 10 // bytes of a helper's last words that are shown

	lastMoment = 100 * time.Millisecond // between the end of a helper's output and its own
)

// ask has a helper of its own answer o.
func (p *Pool) ask(ctx context.Context, o order, file *os.File) (reply, error) {
	if err := p.enter(); err != nil {
		return reply{}, err
	}
	defer p.calls.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.context, func() { cancel(ErrClosed) })()
	t, err := p.slots.acquire(ctx, o.UID)
	if err != nil {
		return reply{}, err
	}
	o.CPUSeconds, o.MemoryMB = uint64(p.options.Timeout/time.Second)+1, p.options.MemoryMB
	c, err := p.open(o, file, t)
	if err != nil {
		t.end()
		return reply{}, p.notStarted(err)
	}
	defer c.close()
	answer, err := c.converse(ctx, o, p.options.Timeout)
	p.finish(c, t, err)
	if errors.Is(err, errSilent) {
		return reply{}, fmt.Errorf("%w: helper ended without an answer: %s", ErrUnreadable, c.lastWords())
	}
	return answer, err
}

// notStarted counts a helper that could not be started.
func (p *Pool) notStarted(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	p.slots.count(func(s *Stats) { s.Failed++ })
	return fmt.Errorf("%w: %w", ErrUnreadable, err)
}

// finish sees the helper off, and abandons it if it cannot be killed.
func (p *Pool) finish(c *conversation, t *ticket, err error) {
	p.slots.count(func(s *Stats) {
		switch {
		case err == nil:
			s.Answered++
		case errors.Is(err, ErrTimeout):
			s.TimedOut++
		default:
			s.Failed++
		}
	})
	if errors.Is(err, errSilent) {
		c.child.await(lastMoment) // it is about to end: how tells more than our signal would
	}
	c.child.kill()
	if !c.child.await(p.options.Grace) {
		t.abandon()
	}
}

// conversation is a helper and our ends of its pipes.
type conversation struct {
	child         *process
	in, out, said *os.File
}

// open starts a helper.
func (p *Pool) open(o order, file *os.File, t *ticket) (*conversation, error) {
	c := &conversation{}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
	}()
	for i, ours := range []**os.File{&c.in, &c.out, &c.said} {
		r, w, err := os.Pipe()
		if err != nil {
			c.close()
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		if i == 0 {
			*ours, theirs = w, append(theirs, r)
		} else {
			*ours, theirs = r, append(theirs, w)
		}
	}
	files := theirs[:len(theirs):len(theirs)]
	if file != nil {
		files = append(files, file)
	}
	proc, err := p.starter.start(o.UID, o.GID, files)
	if err == nil {
		c.child, err = newProcess(proc)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("start helper: %w", err)
	}
	p.slots.count(func(s *Stats) { s.Started++ })
	p.adopt(c.child, t)
	return c, nil
}

func (c *conversation) close() {
	for _, f := range []*os.File{c.in, c.out, c.said} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// errSilent says that a helper ended, or wrote nonsense.
var errSilent = errors.New("no answer")

// converse hands over the order and reads the reply.
func (c *conversation) converse(ctx context.Context, o order, timeout time.Duration) (reply, error) {
	text, err := json.Marshal(o)
	if err != nil || len(text) > maxOrder {
		return reply{}, fmt.Errorf("write order: %w", errors.Join(err, ErrTooLarge))
	}
	deadline := time.Now().Add(timeout)
	_ = c.in.SetWriteDeadline(deadline) // pipes take deadlines
	_ = c.out.SetReadDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = c.out.SetReadDeadline(time.Unix(1, 0)) })()
	_, err = c.in.Write(text)
	_ = c.in.Close()
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(io.LimitReader(c.out, maxReply+1))
	}
	var r reply
	switch {
	case ctx.Err() != nil:
		return reply{}, cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return reply{}, fmt.Errorf("%w: %s", ErrTimeout, timeout)
	case err != nil, len(answer) > maxReply, json.Unmarshal(answer, &r) != nil:
		return reply{}, errSilent
	}
	return r, nil
}

// lastWords are what an ended helper said, and how it ended. What does not fit into the pipe it never could say.
func (c *conversation) lastWords() string {
	_ = c.said.SetReadDeadline(time.Now().Add(lastMoment)) // a child of its may hold it open
	said, _ := io.ReadAll(io.LimitReader(c.said, maxSaid))
	how := "hangs"
	select {
	case <-c.child.done:
		how = c.child.state.String()
	default:
	}
	return fmt.Sprintf("%s: %s", how, sdk.Escape(said))
}
