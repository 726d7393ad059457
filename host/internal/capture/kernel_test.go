package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// testOptions gives every test an instance of its own, so that its pins are nobody else's.
func testOptions(t testing.TB, instance string) Options {
	t.Helper()
	need.Root(t, "load BPF programs")
	return Options{
		Instance: fmt.Sprintf("test-%d-%s", os.Getpid(), instance), Interval: time.Hour, RingPages: 64,
		Secret: []byte("0123456789abcdef"), Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

// testWriter writes a test's log.
type testWriter struct{ testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.Logf("%s", line)
	return len(line), nil
}

func open(t *testing.T, o Options) *Kernel {
	t.Helper()
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removePins(k.root) })
	return k
}

// seen is everything that a source gave until it ended.
type seen struct {
	processes map[Key]*Process
	exits     map[Key]int64
	windows   []*Window
}

// finish stops counting and takes everything that is left.
func finish(t *testing.T, k *Kernel) *seen {
	t.Helper()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	s := &seen{processes: map[Key]*Process{}, exits: map[Key]int64{}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		event, err := k.Next(ctx)
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := event.(type) {
		case *Process:
			s.processes[e.Key] = e
		case *Exit:
			s.exits[e.Key] = e.Time
		case *Window:
			s.windows = append(s.windows, e)
			if err := k.Release(e.Generation); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// flows of this process on a local port.
func (s *seen) flows(port uint16) []Flow {
	var mine []Flow
	for _, w := range s.windows {
		for _, f := range w.Flows {
			if f.Process.Tgid == uint32(os.Getpid()) && f.Local.Port() == port {
				mine = append(mine, f)
			}
		}
	}
	return mine
}

func total(flows []Flow) (sent, received, sends, receives uint64) {
	for _, f := range flows {
		sent, received, sends, receives = sent+f.Sent, received+f.Received, sends+f.Sends, receives+f.Receives
	}
	return sent, received, sends, receives
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func TestConnectAndListenMakeFlowsWithoutBytes(t *testing.T) {
	k := open(t, testOptions(t, "states"))
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	out := client.LocalAddr().(*net.TCPAddr).AddrPort().Port()
	client.Close()
	listener.Close()
	_, err = net.Dial("tcp4", listener.Addr().String())
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("connect to a closed port: %v", err)
	}
	s := finish(t, k)
	results := map[wire.Result]int{}
	for _, f := range s.flows(port) {
		results[f.Result]++
	}
	if results[wire.Result_RESULT_LISTENING] == 0 || results[wire.Result_RESULT_OPEN] != 1 {
		t.Errorf("listening side: %v", results)
	}
	if flows := s.flows(out); len(flows) != 1 || flows[0].Connects != 1 || flows[0].Direction != wire.Direction_DIRECTION_OUT {
		t.Errorf("connecting side: %+v", flows)
	}
	for _, w := range s.windows {
		for _, f := range w.Flows {
			if f.Process.Tgid == uint32(os.Getpid()) && f.Remote.Port() == port && f.Result == wire.Result_RESULT_REFUSED && f.Failures == 1 {
				return
			}
		}
	}
	t.Error("no flow for the connect that was refused")
}

func TestConnectCutByTheEndOfAWindowIsOneRowWithItsPort(t *testing.T) {
	k := open(t, testOptions(t, "cut"))
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(listener, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[uint16]bool{}
	for range 4 { // the queue takes one: the others get no answer
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, name); !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
		own, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		ports[uint16(own.(*unix.SockaddrInet4).Port)] = true
	}
	s := finish(t, k)
	pending := 0
	for port := range ports {
		flows := s.flows(port)
		if len(flows) != 1 || flows[0].Connects != 1 {
			t.Errorf("port %d: %+v", port, flows)
		} else if flows[0].Result == wire.Result_RESULT_PENDING {
			pending++
		}
	}
	if pending == 0 {
		t.Error("no connect was pending: the test proves nothing")
	}
}

func TestExecFacts(t *testing.T) {
	k := open(t, testOptions(t, "exec"))
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200), strings.Repeat("e", 200))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "a name with\nspace")
	content, err := os.ReadFile("/bin/true")
	if err == nil {
		err = os.WriteFile(long, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	arguments := []string{"", "-x", strings.Repeat("y", 3000), "\xff\xfe"}
	huge := []string{strings.Repeat("z", 50_000)}
	var pids []int
	for _, args := range [][]string{nil, arguments, huge} {
		cmd := exec.Command(long, args...)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
	}
	var st unix.Stat_t
	if err := unix.Stat(long, &st); err != nil {
		t.Fatal(err)
	}
	s := finish(t, k)
	for i, want := range []string{long, long + "\x00" + strings.Join(arguments, "\x00"), long + "\x00" + huge[0]} {
		p := s.executed(t, pids[i])
		if string(p.Path.Value) != long || p.Path.Length != len(long) {
			t.Errorf("path %q of %d, want %q", p.Path.Value, p.Path.Length, long)
		}
		if got := string(p.Arguments.Value); got != want[:min(len(want), wire.MaxCommandLine)] {
			t.Errorf("arguments %.80q… (%d bytes), want %.80q… (%d)", got, len(got), want, len(want))
		}
		if len(want) > wire.MaxCommandLine && p.Arguments.Length < len(want) {
			t.Errorf("length %d of a command line of %d bytes", p.Arguments.Length, len(want))
		}
		if p.File.Inode != st.Ino || p.File.Ctime != st.Ctim.Nano() || p.File.Size != uint64(st.Size) {
			t.Errorf("file %+v, stat says inode %d, ctime %d, size %d", p.File, st.Ino, st.Ctim.Nano(), st.Size)
		}
		if p.Parent.Tgid != uint32(os.Getpid()) || s.exits[p.Key] == 0 {
			t.Errorf("parent %+v, exit at %d", p.Parent, s.exits[p.Key])
		}
	}
}

// executed finds the program image that a pid ran, not the fork before it.
func (s *seen) executed(t *testing.T, pid int) *Process {
	t.Helper()
	for key, p := range s.processes {
		if key.Tgid == uint32(pid) && !p.Forked {
			return p
		}
	}
	t.Fatalf("no exec of process %d", pid)
	return nil
}

// images are all program images that a pid ran, in their order.
func (s *seen) images(pid int) []*Process {
	var list []*Process
	for key, p := range s.processes {
		if key.Tgid == uint32(pid) && !p.Forked {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *Process) int { return cmp.Compare(a.Key.ExecID, b.Key.ExecID) })
	return list
}

func TestFlooderIsFoldedAndTheQuietOneIsExact(t *testing.T) {
	o := testOptions(t, "flood")
	o.RingPages = 1 // 4,096 flows, of which one process gets 512
	k := open(t, o)
	to := newDatagram(t)
	const peers, length = 3000, 10
	flooder := newDatagram(t)
	for i := range peers {
		address := &unix.SockaddrInet4{Port: int(to.port), Addr: [4]byte{127, 1, byte(i >> 8), byte(i)}}
		if err := unix.Sendto(flooder.fd, make([]byte, length), 0, address); err != nil {
			t.Fatal(err)
		}
	}
	s := finish(t, k)
	var sent, kept, folded uint64
	for _, w := range s.windows {
		for _, f := range w.Flows {
			switch {
			case f.Process.Tgid != uint32(os.Getpid()):
			case f.Peer == wire.Peer_PEER_FOLDED:
				sent, folded = sent+f.Sent, folded+f.FoldedPeers
			case f.Local.Port() == flooder.port:
				sent, kept = sent+f.Sent, kept+1
			}
		}
		for _, loss := range w.Losses {
			if !loss.Exact {
				t.Errorf("lost: %+v", loss)
			}
		}
	}
	if sent != peers*length || kept > 512 || kept+folded != peers {
		t.Errorf("%d bytes in %d flows and %d folded, want %d bytes, at most 512 flows, %d in all", sent, kept, folded, peers*length, peers)
	}
}

func TestFileKeyIsWhatExecReports(t *testing.T) {
	k := open(t, testOptions(t, "filekey"))
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	key, err := k.FileKey(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if p := finish(t, k).executed(t, cmd.Process.Pid); p.File != key {
		t.Errorf("exec says %+v, the open file %+v", p.File, key)
	}
}

func TestCheckFindsAWayForEveryHook(t *testing.T) {
	testOptions(t, "check")
	hooks, err := Check(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hooks {
		if h.Way == "" {
			t.Errorf("no way to see %s: %v", h.Sees, h.Failures)
		}
	}
}

func TestRecordingReplaysTheSameEvents(t *testing.T) {
	t.Parallel()
	events := []Event{
		&Process{Key: Key{1, 2, 3}, Name: "a\xff\x00b", Arguments: Text{Value: "x\x00\xfe", Length: 9}},
		&Exit{Key: Key{1, 2, 3}, Time: 4},
		&Window{Generation: 5, Flows: []Flow{{Remote: loopback(6), Sent: 7, Name: "\\"}}},
	}
	var file strings.Builder
	r := NewRecorder(&fixed{events: events}, &file)
	for range events {
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	replay := NewReplay(strings.NewReader(file.String()))
	for _, want := range events {
		got, err := replay.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := replay.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an event before the window was released: %v", err)
	}
	if err := replay.Release(5); err != nil {
		t.Error(err)
	}
	if _, err := replay.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// fixed is a Source of given events.
type fixed struct {
	Source
	events []Event
}

func (f *fixed) Next(context.Context) (Event, error) {
	e := f.events[0]
	f.events = f.events[1:]
	return e, nil
}
