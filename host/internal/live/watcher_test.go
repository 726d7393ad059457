package live

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestASlowReaderIsToldWhatItMissedAndDelaysNobody(t *testing.T) {
	t.Parallel()
	f := newFeed(t, Options{})
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var lagged, records, flows uint64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Watch(ctx, &wire.WatchRequest{Interval: int64(shortest)}, func(p *wire.WatchPage) error {
			once.Do(func() { close(entered); <-release })
			lagged += p.GetLagged()
			records += uint64(len(p.GetRecords()))
			flows += uint64(len(p.GetFlows()))
			if records > 0 {
				cancel()
			}
			return nil
		})
	}()
	<-entered
	quick := watch(t, f, &wire.WatchRequest{Interval: int64(shortest)})
	const many = 3 * maxWaiting
	begin := time.Now()
	for i := range many {
		f.Records([]*wire.Record{{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: int64(i)}}}})
	}
	t.Logf("%d records passed a stuck reader in %v (a loaded machine)", many, time.Since(begin))
	var rows []*wire.Record
	for i := range maxWaiting + 100 {
		rows = append(rows, &wire.Record{Kind: &wire.Record_Flow{Flow: rowOf(t, f, flow(uint16(i+1), 1))}})
	}
	f.Window(&capture.Window{Generation: 1, End: capture.Moment{Boot: 1e9}}, rows)
	quick.until(t, "everything, or that it was missed", func(s *seen) bool {
		return uint64(len(s.records))+uint64(s.flows)+s.lagged >= many+maxWaiting+100
	})
	close(release)
	<-done
	if records != maxWaiting || flows != maxWaiting || lagged != many-maxWaiting+100 {
		t.Errorf("the slow reader got %d records, %d flows, missed %d; want %d, %d, %d",
			records, flows, lagged, maxWaiting, maxWaiting, many-maxWaiting+100)
	}
}

func TestTheNewestRecordsAreKeptInOrder(t *testing.T) {
	t.Parallel()
	w, err := newWatcher(&wire.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxWaiting + 3 {
		w.record(wire.WatchRequest_GAPS, &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: int64(i)}}})
	}
	p := w.take(time.Unix(1, 0), time.Second)
	for i, r := range p.GetRecords() {
		if r.GetGap().GetStart() != int64(i+3) {
			t.Fatalf("record %d is %d", i, r.GetGap().GetStart())
		}
	}
	if len(p.GetRecords()) != maxWaiting || p.GetLagged() != 3 {
		t.Errorf("%d records, lagged %d", len(p.GetRecords()), p.GetLagged())
	}
}

func TestWhatIsAskedForWronglyIsRefused(t *testing.T) {
	t.Parallel()
	f := newFeed(t, Options{})
	for _, r := range []*wire.WatchRequest{
		{Interval: 1}, {Interval: -1}, {Interval: int64(time.Hour)}, {Kinds: []wire.WatchRequest_Kind{9}},
	} {
		if err := f.Watch(t.Context(), r, nil); !errors.Is(err, ErrRequest) {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestWatchersAreBoundedAndEndWithTheFeed(t *testing.T) {
	t.Parallel()
	f := newFeed(t, Options{})
	ended := make(chan error, maxWatchers)
	for range maxWatchers {
		go func() {
			ended <- f.Watch(context.Background(), &wire.WatchRequest{}, func(*wire.WatchPage) error { return nil })
		}()
	}
	await(t, "every watcher", func() bool { return f.watching() == maxWatchers })
	if err := f.Watch(t.Context(), &wire.WatchRequest{}, nil); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	f.Close()
	for range maxWatchers {
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
	if err := f.Watch(t.Context(), &wire.WatchRequest{}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestLargePagesAreSplit(t *testing.T) {
	t.Parallel()
	whole := &wire.WatchPage{Time: 7, Lagged: 3}
	for range 3000 {
		whole.Flows = append(whole.Flows, &wire.LiveFlow{Flow: &wire.Flow{Process: &wire.Process{
			CommandLine: &wire.Text{Value: make([]byte, wire.MaxCommandLine)}}}})
	}
	flows, lagged := 0, uint64(0)
	pages := split(whole)
	for _, p := range pages {
		if size := proto.Size(p); size > wire.MaxPageBytes || p.GetTime() != 7 {
			t.Errorf("page of %d bytes at %d", size, p.GetTime())
		}
		flows, lagged = flows+len(p.GetFlows()), lagged+p.GetLagged()
	}
	if flows != 3000 || lagged != 3 || len(pages) < 3 {
		t.Errorf("%d flows in %d pages, lagged %d", flows, len(pages), lagged)
	}
}
