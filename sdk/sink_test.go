package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestErrorsOfApplyBecomeOutcomes(t *testing.T) {
	t.Parallel()
	cause := errors.New("server away \xff")
	retry := func(delay time.Duration, downstream bool) *wire.ApplyResponse {
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_RetryAfter{RetryAfter: &wire.RetryAfter{
			Delay: int64(delay), Reason: "server away \ufffd", Downstream: downstream}}}
	}
	rejected := func(sequences ...uint64) *wire.ApplyResponse {
		return &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Rejected{Rejected: &wire.Rejected{
			Sequences: sequences, Reason: "server away \ufffd"}}}
	}
	for name, test := range map[string]struct {
		err  error
		want *wire.ApplyResponse
	}{
		"none": {nil, &wire.ApplyResponse{Outcome: &wire.ApplyResponse_Acknowledged{Acknowledged: &wire.Acknowledged{
			Watermark: &wire.Watermark{Epoch: make([]byte, 16), Sequence: 3}}}}},
		"retry":            {&Retry{After: time.Minute, Downstream: true, Err: cause}, retry(time.Minute, true)},
		"retry some time":  {fmt.Errorf("wrapped: %w", &Retry{Err: cause}), retry(time.Second, false)},
		"any other":        {cause, retry(time.Second, false)},
		"rejection":        {&Rejection{Sequences: []uint64{2}, Err: cause}, rejected(2)},
		"rejection of all": {&Rejection{Err: cause}, rejected(1, 2, 3)},
		"rewind": {&Rewind{Have: Watermark{Epoch: Epoch{9}, Sequence: 7}}, &wire.ApplyResponse{
			Outcome: &wire.ApplyResponse_Rewind{Rewind: &wire.Rewind{
				Watermark: &wire.Watermark{Epoch: append([]byte{9}, make([]byte, 15)...), Sequence: 7}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := ready(t, &fake{apply: func(context.Context, *Batch) error { return test.err }})
			got, err := c.Sink.Apply(t.Context(), request(t, batchOf(3)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRejectingARecordOfAnotherBatchIsThePluginsFault(t *testing.T) {
	t.Parallel()
	c, _ := ready(t, &fake{apply: func(context.Context, *Batch) error { return &Rejection{Sequences: []uint64{4}} }})
	_, err := c.Sink.Apply(t.Context(), request(t, batchOf(3)))
	want(t, err, codes.Internal, "rejects record 4, which is not in the batch 1..3")
}

func TestABatchThatBreaksTheContractNeverReachesThePlugin(t *testing.T) {
	t.Parallel()
	flow := func(b *wire.Batch) *wire.Flow { return b.Records[1].GetFlow() }
	long := func(n int) *wire.Text { return &wire.Text{Value: bytes.Repeat([]byte{'a'}, n)} }
	c, _ := ready(t, &fake{apply: func(context.Context, *Batch) error { t.Error("the plugin was called"); return nil }})
	for words, change := range map[string]func(*wire.Batch){
		"host_id: 1 bytes, want 16":           func(b *wire.Batch) { b.HostId = []byte{1} },
		"epoch: 0 bytes, want 16":             func(b *wire.Batch) { b.Epoch = nil },
		"previous: 3 bytes, want 32":          func(b *wire.Batch) { b.Previous = []byte("abc") },
		"root: 1 bytes, want 32":              func(b *wire.Batch) { b.Root = []byte{1} },
		"first is 0":                          func(b *wire.Batch) { b.First, b.Last = 0, 2 },
		"3 records for the range 1..4":        func(b *wire.Batch) { b.Last = 4 },
		"3 records for the range 5..3":        func(b *wire.Batch) { b.First = 5 },
		"0 records, want 1 to 4096":           func(b *wire.Batch) { b.Records = nil },
		"4097 records, want 1 to 4096":        func(b *wire.Batch) { b.Records = batchOf(4097).Records },
		"record 1 of it has sequence 9":       func(b *wire.Batch) { b.Records[1].Sequence = 9 },
		"record 2: flow.process.name: 17":     func(b *wire.Batch) { flow(b).Process = &wire.Process{Name: long(17)} },
		"flow.parent.executable.path: 4097":   func(b *wire.Batch) { flow(b).Parent = &wire.Process{Executable: &wire.Executable{Path: long(4097)}} },
		"flow.domain: 256 bytes, at most 255": func(b *wire.Batch) { flow(b).Domain = &wire.Domain{Name: long(256)} },
		"flow.remote.ip: 5 bytes":             func(b *wire.Batch) { flow(b).Remote = &wire.Endpoint{Ip: make([]byte, 5)} },
	} {
		b := batchOf(3)
		change(b)
		_, err := c.Sink.Apply(t.Context(), request(t, b))
		want(t, err, codes.InvalidArgument, words)
	}
	_, err := c.Sink.Apply(t.Context(), &wire.ApplyRequest{Codec: 2})
	want(t, err, codes.InvalidArgument, "codec 2: this plugin knows 1")
	_, err = c.Sink.Apply(t.Context(), &wire.ApplyRequest{Codec: 1, Batch: []byte{0xff}})
	want(t, err, codes.InvalidArgument, "batch: decode")
	_, err = c.Sink.Apply(t.Context(), &wire.ApplyRequest{Codec: 1, Batch: make([]byte, wire.MaxBatchBytes+1)})
	want(t, err, codes.InvalidArgument, "batch: 1048577 bytes, at most 1048576")
	_, err = c.Sink.Apply(t.Context(), &wire.ApplyRequest{Codec: 1, Batch: make([]byte, 5<<20)})
	want(t, err, codes.ResourceExhausted, "")
}

func TestABatchArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	sent := batchOf(3)
	sent.Epoch[0] = 5
	var got *Batch
	c, _ := ready(t, &fake{apply: func(_ context.Context, b *Batch) error { got = b; return nil }})
	r := request(t, sent)
	if _, err := c.Sink.Apply(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Raw, r.Batch) || got.Epoch != (Epoch{5}) || got.Epoch.String() != "05"+strings.Repeat("0", 30) {
		t.Errorf("epoch %v, %d raw bytes, want 05…, the %d sent", got.Epoch, len(got.Raw), len(r.Batch))
	}
	if diff := cmp.Diff(sent, got.Batch, protocmp.Transform()); diff != "" {
		t.Errorf("batch (-sent +got):\n%s", diff)
	}
}

func TestApplyIsCalledOneAtATime(t *testing.T) {
	t.Parallel()
	var running, most, calls atomic.Int32
	c, _ := ready(t, &fake{apply: func(context.Context, *Batch) error {
		most.Store(max(most.Load(), running.Add(1)))
		time.Sleep(time.Millisecond) // long enough for another to enter if it could
		running.Add(-1)
		calls.Add(1)
		return nil
	}})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := c.Sink.Apply(t.Context(), request(t, batchOf(1))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if most.Load() != 1 || calls.Load() != 8 {
		t.Errorf("%d at a time, %d in all, want 1 and 8", most.Load(), calls.Load())
	}
}

func TestAPageThatIsTooLargeIsAnErrorOfTheStore(t *testing.T) {
	t.Parallel()
	big := &wire.QueryPage{Cursor: make([]byte, wire.MaxPageBytes)}
	c, _ := ready(t, &fake{query: func(_ context.Context, page func(*wire.QueryPage) error) error { return page(big) }})
	stream, err := c.Store.Query(t.Context(), &wire.Query{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	want(t, err, codes.Unknown, "at most 4194304")
}

func TestAWrongQuestionIsTheAskersFault(t *testing.T) {
	t.Parallel()
	c, _ := ready(t, &fake{query: func(context.Context, func(*wire.QueryPage) error) error {
		return fmt.Errorf("%w: column colour", ErrQuery)
	}})
	stream, err := c.Store.Query(t.Context(), &wire.Query{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	want(t, err, codes.InvalidArgument, "column colour")
}
