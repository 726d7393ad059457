package canary

import (
	"bytes"
	"debug/elf"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// allHooks has every program of every sense at work, each seeing what is called like it.
func allHooks() []capture.Hook {
	var hooks []capture.Hook
	for s := range senses {
		hooks = append(hooks, capture.Hook{Sees: s.programs()[0], Way: "x", Programs: s.programs()[:1]})
	}
	return hooks
}

// paper is a canary whose exchanges are only written down.
type paper struct {
	*Canary
	sockets *sockets
	now     int64
}

func newPaper() *paper {
	at := func(cookie uint64, family string, port uint16) endpoint {
		return endpoint{cookie: cookie, address: netip.AddrPortFrom(netip.MustParseAddr(family), port)}
	}
	p := &paper{now: 100, sockets: &sockets{
		listener: at(1, "127.0.0.1", 1001), client: at(2, "127.0.0.1", 1002), server: at(3, "127.0.0.1", 1001), refused: at(4, "127.0.0.1", 1004),
		trios: []trio{{
			speaker: at(5, "127.0.0.1", 1005), asker: at(6, "127.0.0.1", 1006), silent: at(7, "127.0.0.1", 1007),
			sent: peersSentV4, received: peersReceivedV4,
		}},
	}}
	p.Canary = New(Options{Hooks: allHooks(), Now: func() capture.Moment { return capture.Moment{UTC: p.now, Boot: p.now} }, Every: 30})
	p.ours = p.sockets.cookies()
	return p
}

// exchange is a Tick that moves nothing.
func (p *paper) exchange(exec bool) {
	p.due, p.urgent = 0, true
	t, _ := p.begin(p.now)
	t.wants, t.exec, t.finished = p.sockets.wants(), exec, p.options.Now()
}

// flows are what the probes tell of an exchange if they see everything.
func (p *paper) flows() []capture.Flow {
	var list []capture.Flow
	for _, w := range p.sockets.wants() {
		udp := w.cookie >= p.sockets.trios[0].speaker.cookie
		if udp && !w.peer.IsValid() {
			continue // the sum of its peers
		}
		list = append(list, capture.Flow{
			Socket: w.cookie, Sent: w.sums.sent, Received: w.sums.received, Connects: w.sums.connects, Remote: w.peer, Peer: wire.Peer_PEER_EXACT,
		})
	}
	return list
}

func (p *paper) window(flows []capture.Flow, losses ...capture.Loss) (Verdict, bool, *capture.Window) {
	p.now += 10
	w := &capture.Window{End: p.options.Now(), Flows: flows, Losses: losses}
	v, ok := p.Window(w)
	return v, ok, w
}

func TestVerdictNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(f *capture.Flow) bool // whether the flow is told at all
		want  []string
	}{
		"nothing":  {func(*capture.Flow) bool { return true }, nil},
		"all":      {func(*capture.Flow) bool { return false }, []string{"sock_send", "sock_receive", "sock_state"}},
		"sends":    {func(f *capture.Flow) bool { f.Sent = 0; return true }, []string{"sock_send"}},
		"receives": {func(f *capture.Flow) bool { f.Received = 0; return true }, []string{"sock_receive"}},
		"a byte":   {func(f *capture.Flow) bool { f.Sent -= min(f.Sent, 1); return true }, []string{"sock_send"}},
		"states":   {func(f *capture.Flow) bool { f.Connects = 0; return true }, []string{"sock_state"}},
		"peers that are sent to": {func(f *capture.Flow) bool {
			if f.Socket >= 5 && f.Sent > 0 {
				f.Peer, f.Remote = wire.Peer_PEER_UNKNOWN, netip.AddrPort{}
			}
			return true
		}, []string{"send_to_v4"}},
		"peers that are asked for": {func(f *capture.Flow) bool {
			if f.Socket == 6 {
				f.Peer = wire.Peer_PEER_INFERRED
			}
			return true
		}, []string{"receive_v4"}},
		"peers that nobody asks for": {func(f *capture.Flow) bool {
			if f.Socket == 7 && f.Received > 0 {
				f.Peer = wire.Peer_PEER_INFERRED
			}
			return true
		}, []string{"arrive"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPaper()
			p.exchange(false)
			flows := p.flows()
			flows = slices.Collect(func(yield func(capture.Flow) bool) {
				for _, f := range flows {
					if test.spoil(&f) && !yield(f) {
						return
					}
				}
			})
			v, ok, w := p.window(flows)
			if len(test.want) == 0 {
				if !ok || len(v.Blind) > 0 || v.Since.UTC != 100 {
					t.Errorf("%v %v, want all well", v, ok)
				}
				return
			}
			if ok || len(w.Flows) > 0 {
				t.Errorf("%v after one window, %d flows left", v, len(w.Flows))
			}
			v, ok, _ = p.window(nil)
			if diff := cmp.Diff(test.want, v.Blind); !ok || diff != "" {
				t.Errorf("judged %v: %s", ok, diff)
			}
		})
	}
}

func TestExchangeMayBeSplitBetweenWindows(t *testing.T) {
	t.Parallel()
	p := newPaper()
	p.exchange(false)
	flows := p.flows()
	p.window(slices.Clone(flows[:3]))
	if v, ok, _ := p.window(flows[3:]); !ok || len(v.Blind) > 0 {
		t.Errorf("%v %v", v, ok)
	}
}

func TestWindowThatLostSomethingCondemnsNobody(t *testing.T) {
	t.Parallel()
	for cause, want := range map[string]uint64{"flow map full": 0, "program sock_send was already running": 0, "exec ring full": 1} {
		p := newPaper()
		p.exchange(false)
		for range 2 {
			p.window(nil, capture.Loss{Cause: cause, Events: 1, Exact: true})
		}
		if c := p.Counters(); c.Lost != want || c.Unjudged != 1-want {
			t.Errorf("%s: %+v", cause, c)
		}
	}
}

func TestExecutionIsJudgedByFileAlone(t *testing.T) {
	t.Parallel()
	p := newPaper()
	p.file = capture.FileKey{Superblock: 1, Inode: 2}
	key := capture.Key{Tgid: 9}
	for step, want := range [][]string{{"process_exec"}, {"process_exit"}, nil} {
		p.exchange(true)
		if p.Process(&capture.Process{Key: key, File: capture.FileKey{Inode: 2}}) {
			t.Error("another file is ours")
		}
		if step > 0 && !p.Process(&capture.Process{Key: key, File: p.file}) {
			t.Error("our file is not ours")
		}
		if step > 1 {
			p.Exit(&capture.Exit{Key: key})
		}
		v, ok, _ := p.window(p.flows())
		if !ok {
			v, _, _ = p.window(nil)
		}
		if diff := cmp.Diff(want, v.Blind); diff != "" {
			t.Errorf("step %d: %s", step, diff)
		}
	}
}

func TestFlowsOfOthersAndOfEarlierCanaries(t *testing.T) {
	t.Parallel()
	p := newPaper()
	p.ours = append(p.ours, 77)
	_, _, w := p.window([]capture.Flow{{Socket: 77}, {Socket: 78, Sent: 1}, {Socket: 0, Sent: 2}})
	if len(w.Flows) != 2 || w.Flows[0].Socket != 78 || p.Counters().Flows != 1 {
		t.Errorf("left %v", w.Flows)
	}
	if !p.Owns(&capture.Flow{Socket: 77}) || p.Owns(&capture.Flow{Socket: 78}) || p.Owns(&capture.Flow{}) {
		t.Error("it does not know its own flows")
	}
}

func TestNextExchangeWaitsForTheVerdict(t *testing.T) {
	t.Parallel()
	p := newPaper()
	p.exchange(false)
	p.Again()
	if trial, _ := p.begin(p.now + 1000); trial != nil {
		t.Error("two at once")
	}
	p.window(p.flows())
	if trial, exec := p.begin(p.now); trial == nil || !exec {
		t.Error("not at once")
	}
}

func TestFailuresMakeItRarer(t *testing.T) {
	t.Parallel()
	p := newPaper()
	for range 20 {
		p.abandon(0)
	}
	if p.due != 30<<maxFailures {
		t.Errorf("next after %d", p.due)
	}
}

func TestWhatHasNoProgramIsNotJudged(t *testing.T) {
	t.Parallel()
	w := words([]capture.Hook{{Sees: "sent", Way: "fexit", Programs: []string{"inet_send", "inet6_send"}}, {Sees: "states"}})
	if diff := cmp.Diff(map[sense]string{sends: "sent"}, w); diff != "" {
		t.Error(diff)
	}
}

func TestImagesAreExecutables(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		content, err := image(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(content))
		if err != nil || f.Type != elf.ET_EXEC || len(f.Progs) != 1 || len(content) > 140 {
			t.Errorf("%s: %d bytes, %v", arch, len(content), err)
		}
	}
	if _, err := image("sparc"); !errors.Is(err, errNoProgram) {
		t.Errorf("%v", err)
	}
}

func TestEverySenseIsFoundInThisKernel(t *testing.T) {
	t.Parallel()
	need.Root(t, "load BPF programs")
	hooks, err := capture.Check(nil)
	if err != nil {
		t.Fatal(err)
	}
	for s := range senses {
		if words(hooks)[s] == "" {
			t.Errorf("no hook has one of %q: renamed?", s.programs())
		}
	}
}
