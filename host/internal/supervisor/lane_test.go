package supervisor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// strictSink counts as a store does: what does not follow on what it has, it wants to be explained by a Gap.
type strictSink struct {
	have    map[sdk.Epoch]uint64
	taken   []string // text of the records, "gap REASON" for those
	gaps    []*wire.Gap
	applies int
	// refuse decides about a batch before it is looked at further; nil, nil: it may be taken.
	refuse func(b *wire.Batch) (*wire.ApplyResponse, error)
}

func (s *strictSink) apply(_ context.Context, b *wire.Batch) (*wire.ApplyResponse, error) {
	s.applies++
	epoch := sdk.Epoch(b.GetEpoch())
	have := s.have[epoch]
	explained := slices.ContainsFunc(b.GetRecords(), func(r *wire.Record) bool {
		g := r.GetGap()
		return g != nil && sdk.Epoch(g.GetEpoch()) == epoch && g.GetFirst() <= have+1 && g.GetLast() >= b.GetFirst()-1
	})
	switch {
	case b.GetLast() <= have:
		return acknowledge(b), nil
	case b.GetFirst() != have+1 && (b.GetFirst() <= have || !explained):
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rewind{Rewind: &wire.Rewind{
			Watermark: &wire.Watermark{Epoch: b.GetEpoch(), Sequence: have}}}}, nil
	}
	if s.refuse != nil {
		if r, err := s.refuse(b); r != nil || err != nil {
			return r, err
		}
	}
	for i, r := range b.GetRecords() {
		if r.GetSequence() != b.GetFirst()+uint64(i) {
			return nil, status.Error(codes.Internal, "a hole in the batch")
		}
		if g := r.GetGap(); g != nil {
			s.gaps = append(s.gaps, g)
			s.taken = append(s.taken, "gap "+g.GetReason().String())
			continue
		}
		s.taken = append(s.taken, string(r.GetNotice().GetText().GetValue()))
	}
	s.have[epoch] = b.GetLast()
	return acknowledge(b), nil
}

// lane is a sink at the end of a real journal.
type lane struct {
	*strictSink
	t      *testing.T
	j      *journal.Journal
	cursor *journal.Cursor
	events []Event
}

func newLane(t *testing.T) *lane {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), HostID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := j.Cursor("strict")
	if err != nil {
		t.Fatal(err)
	}
	return &lane{strictSink: &strictSink{have: map[sdk.Epoch]uint64{}}, t: t, j: j, cursor: c}
}

// add appends one batch of n records, of which those given are poison.
func (l *lane) add(n int, poison ...int) {
	l.t.Helper()
	records := make([]*wire.Record, n)
	for i := range records {
		text := fmt.Sprint(i + 1)
		if slices.Contains(poison, i+1) {
			text = "poison " + text
		}
		records[i] = &wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Text: &wire.Text{Value: []byte(text)}}}}
	}
	if _, _, err := l.j.Append(records); err != nil {
		l.t.Fatal(err)
	}
}

// live is one incarnation: it takes batches until nothing is left, and the error that ends it.
func (l *lane) live() error {
	l.t.Helper()
	o := &Options{HostID: [16]byte{1}, Jitter: func() float64 { return 0 }, Report: func(e Event) { l.events = append(l.events, e) }}
	w := newWorker(Spec{Name: "strict", Directory: "/nowhere"}, o)
	plugin := fakePlugin{apply: l.apply}
	r := &running{worker: w, inc: &incarnation{life: newFakeLife(), client: &sdk.Client{Plugin: plugin, Sink: plugin}}, feed: l.cursor}
	if mark, ok := l.have[l.j.Epoch()]; ok {
		l.cursor.Seek([]sdk.Watermark{{Epoch: l.j.Epoch(), Sequence: mark}})
	}
	d := newDelivery(r)
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for l.cursor.Lag() > 0 {
		if _, err := d.next(ctx, ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			l.t.Fatalf("still %d records to go after a minute", l.cursor.Lag())
		}
	}
	return nil
}

// poisonous are the records of a batch that are poison.
func poisonous(b *wire.Batch) (sequences []uint64) {
	for _, r := range b.GetRecords() {
		if strings.HasPrefix(string(r.GetNotice().GetText().GetValue()), "poison") {
			sequences = append(sequences, r.GetSequence())
		}
	}
	return sequences
}

func rejected(sequences []uint64) *wire.ApplyResponse {
	return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rejected{Rejected: &wire.Rejected{Sequences: sequences, Reason: "odd"}}}
}

// check compares what the sink has, and what was set aside, with one batch of n records in which those given are poison.
func (l *lane) check(n int, poison ...int) {
	l.t.Helper()
	var want, wantAside []string
	for i := range n {
		if slices.Contains(poison, i+1) {
			want = append(want, "gap GAP_POISON")
			wantAside = append(wantAside, fmt.Sprint("poison ", i+1))
			continue
		}
		want = append(want, fmt.Sprint(i+1))
	}
	if !slices.Equal(l.taken, want) {
		l.t.Errorf("the sink has %q\nwant %q", l.taken, want)
	}
	if got := l.aside(); !slices.Equal(got, wantAside) {
		l.t.Errorf("set aside %q, want %q", got, wantAside)
	}
}

func (l *lane) aside() (texts []string) {
	l.t.Helper()
	all, err := l.j.Aside("strict")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, a := range all {
		for _, r := range a.Records {
			texts = append(texts, string(r.GetNotice().GetText().GetValue()))
		}
	}
	return texts
}

// dropped compares what the journal counts as discarded for the sink.
func (l *lane) dropped(want uint64) {
	l.t.Helper()
	s, err := l.cursor.Stats()
	if err != nil || s.Dropped != (journal.Dropped{Discarded: want}) {
		l.t.Errorf("dropped %+v, %v, want %d discarded", s.Dropped, err, want)
	}
}
