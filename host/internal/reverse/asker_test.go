package reverse

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/name"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// world is what an Asker asks, learns and says.
type world struct {
	*Asker
	batches [][]netip.Addr
	answer  func(netip.Addr) helper.ReverseAnswer
	err     error
	hold    chan bool // nil: answers come at once
	learned []string
	notes   []string
	now     int64
}

// begin makes one that is switched on, in a bubble of synctest. Nobody looks at it but after settle.
func begin(t *testing.T) *world {
	w := &world{answer: func(netip.Addr) helper.ReverseAnswer { return helper.ReverseAnswer{Answered: true} }}
	w.Asker = New(Options{
		Resolver: w, Now: func() capture.Moment { return capture.Moment{Boot: w.now} }, Note: func(text string) { w.notes = append(w.notes, text) },
		Learn: func(f name.Fact) {
			w.learned = append(w.learned, fmt.Sprint(f.Address, " ", f.Name, " ", f.Source, " ", f.TTL))
		},
	})
	w.Enable(true)
	t.Cleanup(w.Close)
	return w
}

// Reverse is what the Asker asks.
func (w *world) Reverse(ctx context.Context, addresses []netip.Addr) ([]helper.ReverseAnswer, error) {
	w.batches = append(w.batches, addresses)
	if w.hold != nil {
		select {
		case <-w.hold:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	answers := make([]helper.ReverseAnswer, len(addresses))
	for i, address := range addresses {
		answers[i] = w.answer(address)
	}
	return answers, nil
}

// use makes a window of flows at a time, and settles.
func (w *world) use(at time.Duration, flows ...*wire.Flow) {
	w.now = int64(at)
	window := &capture.Window{End: capture.Moment{Boot: w.now}}
	var records []*wire.Record
	for _, f := range flows {
		address, _ := netip.AddrFromSlice(f.GetRemote().GetIp())
		window.Flows = append(window.Flows, capture.Flow{Remote: netip.AddrPortFrom(address, uint16(f.GetRemote().GetPort()))})
		records = append(records, &wire.Record{Kind: &wire.Record_Flow{Flow: f}})
	}
	w.Window(window, append(records, &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{}}}))
	synctest.Wait()
}

// flow is one of a user to an address and port.
func flow(uid uint32, remote string) *wire.Flow {
	at := netip.MustParseAddrPort(remote)
	return &wire.Flow{
		Process: &wire.Process{Ruid: uid}, Remote: &wire.Endpoint{Ip: at.Addr().AsSlice(), Port: int32(at.Port())},
	}
}

func named(f *wire.Flow, sources ...wire.NameSource) *wire.Flow {
	for _, s := range sources {
		f.Domains = append(f.Domains, &wire.Domain{Name: &wire.Text{Value: []byte("a.example")}, Source: s})
	}
	return f
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestNothingIsAskedUnlessSwitchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.Enable(false)
		w.use(0, flow(0, "192.0.2.1:443"))
		want(t, "off", w.batches, "[]")
		w.Enable(true)
		w.use(0, flow(0, "192.0.2.1:443"))
		want(t, "on", w.batches, "[[192.0.2.1]]")
		w.Enable(false)
		w.use(0, flow(0, "192.0.2.2:443"))
		want(t, "off again", len(w.batches), 1)
	})
	var nobody *Asker
	nobody.Enable(true)
	nobody.Window(&capture.Window{}, nil)
}

func TestOnlyAddressesWithoutANameAreAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ptr, sni, outer = wire.NameSource_NAME_SOURCE_PTR, wire.NameSource_NAME_SOURCE_SNI, wire.NameSource_NAME_SOURCE_SNI_OUTER
		w := begin(t)
		hidden := flow(0, "192.0.2.77:1")
		hidden.Remote.Ip = nil // not recorded
		w.use(0,
			flow(0, "127.0.0.1:443"), flow(0, "[::1]:443"), flow(0, "0.0.0.0:443"), flow(0, "[::]:443"), flow(0, "0.1.2.3:443"),
			flow(0, "169.254.1.1:443"), flow(0, "[fe80::1]:443"), flow(0, "224.0.0.251:443"), flow(0, "[ff02::fb]:443"),
			flow(0, "255.255.255.255:443"), flow(0, "240.0.0.1:443"), hidden,
			flow(0, "192.0.2.53:443"), flow(7, "192.0.2.53:53"), flow(0, "[2001:db8::53]:853"),
			named(flow(0, "192.0.2.2:443"), sni), named(flow(0, "192.0.2.3:443"), outer), named(flow(0, "192.0.2.4:443"), ptr, sni),
			flow(0, "10.1.2.3:443"), flow(0, "[fd00::7]:443"), flow(0, "198.51.100.1:443"), flow(0, "198.51.100.1:444"),
			flow(0, "[2001:db8::1]:443"), named(flow(0, "192.0.2.5:443"), ptr), flow(0, "[::ffff:192.0.2.6]:443"))
		want(t, "asked", w.batches, "[[10.1.2.3 fd00::7 198.51.100.1 2001:db8::1 192.0.2.5 192.0.2.6]]")
	})
}

func TestAnAddressIsAskedAboutOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.answer = func(address netip.Addr) helper.ReverseAnswer {
			switch address.String() {
			case "192.0.2.1":
				return helper.ReverseAnswer{Names: []string{"one.example.", "two.example."}, Answered: true}
			case "192.0.2.2":
				return helper.ReverseAnswer{Error: "server misbehaving", Answered: true}
			}
			return helper.ReverseAnswer{Answered: true} // has no name
		}
		flows := []*wire.Flow{flow(0, "192.0.2.1:1"), flow(0, "192.0.2.2:1"), flow(0, "192.0.2.3:1")}
		for at := time.Duration(0); at <= 2*time.Hour; at += 10 * time.Second {
			w.use(at, flows...)
		}
		count := map[string]int{}
		for _, a := range slices.Concat(w.batches...) {
			count[a.String()]++
		}
		want(t, "questions in two hours", count, map[string]int{"192.0.2.1": 3, "192.0.2.2": 25, "192.0.2.3": 3})
		const fact = "192.0.2.1 %s.example. NAME_SOURCE_PTR 1h0m0s"
		want(t, "learned", w.learned[:2], []string{fmt.Sprintf(fact, "one"), fmt.Sprintf(fact, "two")})
		want(t, "said of a server that answers", w.notes, "[]")
	})
}

func TestOneUsersManyAddressesLeaveRoomForAnothersFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		var flows []*wire.Flow
		for i := range 100 {
			flows = append(flows, flow(1000, fmt.Sprintf("192.0.2.%d:1", i)))
		}
		flows = append(flows, flow(1001, "198.51.100.1:1"), flow(1001, "198.51.100.2:1"), flow(1002, "198.51.100.3:1"))
		for range 4 {
			w.use(0, flows...)
		}
		want(t, "batches", len(w.batches), 4)
		want(t, "the first batch", w.batches[0][:5], "[192.0.2.0 198.51.100.1 198.51.100.3 192.0.2.1 198.51.100.2]")
		for _, batch := range w.batches[:3] {
			want(t, "size", len(batch), helper.MaxReverse)
		}
		all := slices.Concat(w.batches...)
		slices.SortFunc(all, netip.Addr.Compare)
		want(t, "addresses that were asked about, once each", len(slices.Compact(all)), 103)
	})
}

func TestWhatFindsNoRoomIsAskedAboutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.hold = make(chan bool)
		for i := range 3 {
			w.use(0, flow(0, fmt.Sprintf("192.0.2.%d:1", i)))
		}
		want(t, "under way", w.batches, "[[192.0.2.0]]")
		close(w.hold)
		synctest.Wait()
		want(t, "that waited", w.batches, "[[192.0.2.0] [192.0.2.1]]")
		w.use(0, flow(0, "192.0.2.0:1"), flow(0, "192.0.2.2:1"))
		want(t, "that found no room", w.batches, "[[192.0.2.0] [192.0.2.1] [192.0.2.2]]")
	})
}

func TestFailureIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.err = errors.New("no place")
		for i := range 3 {
			w.use(0, flow(0, fmt.Sprintf("192.0.2.%d:1", i)))
		}
		w.err = nil
		w.use(0, flow(0, "192.0.2.3:1"))
		w.use(0, flow(0, "192.0.2.0:1"))
		want(t, "said", strings.Join(w.notes, "; "), "reverse DNS: no question was answered: no place; reverse DNS: questions are answered again")
		want(t, "asked", len(w.batches), 4)
		w.use(retry, flow(0, "192.0.2.0:1"))
		want(t, "asked after a while", len(w.batches), 5)
	})
}

func TestCloseGivesUpWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.hold = make(chan bool)
		w.use(0, flow(0, "192.0.2.1:1"))
		w.Close()
		want(t, "said of it", w.notes, "[]")
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		for i := range maxAsked + 100 {
			w.use(0, flow(0, fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)))
		}
		want(t, "remembered", fmt.Sprint(len(w.asked), " ", len(w.order)), fmt.Sprint(maxAsked, " ", maxAsked))
		want(t, "asked", len(w.batches), maxAsked+100)
	})
}
