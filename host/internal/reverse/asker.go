package reverse

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/name"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	again    = time.Hour       // until an address that was answered for is asked about again, also if it has no name
	retry    = 5 * time.Minute // likewise if nobody could tell
	maxAsked = 4096            // addresses that are remembered for that
)

// Resolver asks for the names of addresses, and gives one answer for each; [helper.Pool] is one.
type Resolver interface {
	Reverse(ctx context.Context, addresses []netip.Addr) ([]helper.ReverseAnswer, error)
}

// Options are what an [Asker] works with; all of them.
type Options struct {
	Resolver Resolver
	Learn    func(name.Fact)
	Note     func(string) // tells a person, when nobody answers any more and when somebody does again
	Now      func() capture.Moment
}

// Asker asks about the addresses of windows. A nil one asks nothing.
type Asker struct {
	options Options
	on      atomic.Bool
	batches chan []netip.Addr // holds one
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	failing bool // the last batch had no answer; the goroutine's own

	mu    sync.Mutex
	asked map[netip.Addr]int64 // until when it is not asked about again, boot ns
	order []netip.Addr         // of asked, the first that was remembered first
}

// New makes an Asker that is off. The caller closes it.
func New(o Options) *Asker {
	ctx, cancel := context.WithCancel(context.Background())
	a := &Asker{options: o, batches: make(chan []netip.Addr, 1), cancel: cancel, asked: map[netip.Addr]int64{}}
	a.ended.Go(func() { a.run(ctx) })
	return a
}

// Enable begins or ends to ask. What was answered stays known for as long as it counts.
func (a *Asker) Enable(on bool) {
	if a != nil {
		a.on.Store(on)
	}
}

// Close gives up the questions under way.
func (a *Asker) Close() {
	a.cancel()
	a.ended.Wait()
}

// Window takes a window that is complete, with the records made of it, and has the nameless of their addresses asked about. It
// does not wait.
func (a *Asker) Window(w *capture.Window, records []*wire.Record) {
	if a == nil || !a.on.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.batches) > 0 {
		return
	}
	servers := nameServers(w)
	batch := inTurn(records, func(address netip.Addr) bool {
		return !servers[address] && a.asked[address] <= w.End.Boot
	})
	if len(batch) == 0 {
		return
	}
	for _, address := range batch {
		a.rememberLocked(address, w.End.Boot+int64(again))
	}
	a.batches <- batch // there is room, and only here it is taken
}

// rememberLocked remembers until when an address is not asked about. With too many, the one that was remembered first may be
// asked about early.
func (a *Asker) rememberLocked(address netip.Addr, until int64) {
	if _, known := a.asked[address]; !known {
		if len(a.order) >= maxAsked {
			delete(a.asked, a.order[0])
			a.order = a.order[1:]
		}
		a.order = append(a.order, address)
	}
	a.asked[address] = until
}

func (a *Asker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case batch := <-a.batches:
			a.ask(ctx, batch)
		}
	}
}

// ask has one batch answered.
func (a *Asker) ask(ctx context.Context, batch []netip.Addr) {
	answers, err := a.options.Resolver.Reverse(ctx, batch)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		answers = slices.Repeat([]helper.ReverseAnswer{{Error: err.Error()}}, len(batch))
	}
	now, answered := a.options.Now().Boot, false
	for i, answer := range answers {
		answered = answered || answer.Answered
		if answer.Error != "" {
			a.mu.Lock()
			a.rememberLocked(batch[i], now+int64(retry))
			a.mu.Unlock()
			continue
		}
		for _, called := range answer.Names {
			a.options.Learn(name.Fact{
				Source: wire.NameSource_NAME_SOURCE_PTR, Name: called, Address: batch[i], TTL: again, Time: now,
			})
		}
	}
	switch {
	case !answered && !a.failing:
		a.options.Note("reverse DNS: no question was answered: " + answers[0].Error)
	case answered && a.failing:
		a.options.Note("reverse DNS: questions are answered again")
	}
	a.failing = !answered
}
