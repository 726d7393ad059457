package sdktest

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// sinkTest is what the parts about sinks have in common.
type sinkTest struct {
	Options
	t         *testing.T // of the part
	directory string
	stream    *Stream
	store     bool
	flows     int    // delivered
	execs     int    // delivered
	sent      uint64 // sum over the flows
}

// start starts the plugin on the test's directory.
func (s *sinkTest) start() (*process, map[sdk.Epoch]uint64) {
	s.t.Helper()
	p := start(s.t, s.Options)
	return p, p.configure(s.Options, s.stream, s.directory)
}

// restart kills the plugin and starts it anew on what it has stored. The part ends here for a sink without memory.
func (s *sinkTest) restart(p *process) (*process, map[sdk.Epoch]uint64) {
	s.t.Helper()
	p.kill()
	p, marks := s.start()
	if len(marks) == 0 {
		s.t.Skip("a sink without memory gets batches at least once")
	}
	return p, marks
}

// interrupt kills the plugin a while after a batch was handed to it, and delivers that again to its successor, which must
// hold all of it or nothing.
func (s *sinkTest) interrupt(p *process, open *wire.Batch, after time.Duration) *process {
	s.t.Helper()
	p.interrupt(open, after)
	p, marks := s.restart(p)
	if mark := marks[s.stream.Epoch]; mark != open.GetFirst()-1 && mark != open.GetLast() {
		s.t.Fatalf("watermark %d after kill -9, want %d or %d: a batch is stored whole or not at all",
			mark, open.GetFirst()-1, open.GetLast())
	}
	p.store(open)
	return p
}

// next is the stream's next batch; what it holds is expected to be in the store from now on.
func (s *sinkTest) next(records []*wire.Record) *wire.Batch {
	for _, r := range records {
		if f := r.GetFlow(); f != nil {
			s.flows++
			s.sent += f.GetSent()
		}
		if r.GetExec() != nil {
			s.execs++
		}
	}
	return s.stream.Next(records)
}

// complete checks that the sink holds what was delivered, nothing twice.
func (s *sinkTest) complete(p *process) {
	s.t.Helper()
	switch {
	case s.Count != nil:
		if n, err := s.Count(s.directory); err != nil || n != s.flows {
			s.t.Errorf("%d flows stored (%v), want %d", n, err, s.flows)
		}
	case s.store:
		if sent, err := totalSent(p); err != nil || sent != s.sent {
			s.t.Errorf("the store's total is %d bytes sent (%v), want %d", sent, err, s.sent)
		}
	}
}

// totalSent asks a store for the sum of everything sent.
func totalSent(p *process) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := p.Store.Query(ctx, &wire.Query{What: wire.Query_FLOWS})
	if err != nil {
		return 0, err
	}
	var sent uint64
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return 0, err
		}
		for _, row := range page.GetRows() {
			sent += row.GetMeasures().GetSent()
		}
	}
}
