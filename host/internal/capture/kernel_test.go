package capture

import (
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

// datagram is a bound UDP socket of this process, used by plain system calls.
type datagram struct {
	t    *testing.T
	fd   int
	port uint16
}

func newDatagram(t *testing.T) *datagram {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return &datagram{t, fd, uint16(name.(*unix.SockaddrInet4).Port)}
}

func (d *datagram) send(to uint16, length int) {
	d.t.Helper()
	if err := unix.Sendto(d.fd, make([]byte, length), 0, &unix.SockaddrInet4{Port: int(to), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		d.t.Fatal(err)
	}
}

// read receives without asking where from.
func (d *datagram) read() {
	d.t.Helper()
	if _, err := unix.Read(d.fd, make([]byte, 4096)); err != nil {
		d.t.Fatal(err)
	}
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func TestEveryDatagramHasItsPeer(t *testing.T) {
	k := open(t, testOptions(t, "peers"))
	from := newDatagram(t)
	sizes := map[uint16]uint64{}
	for i := range 50 {
		to := newDatagram(t)
		sizes[to.port] = uint64(i + 1)
		from.send(to.port, i+1)
	}
	flows := finish(t, k).flows(from.port)
	if len(flows) != 50 {
		t.Fatalf("%d flows, want 50", len(flows))
	}
	for _, f := range flows {
		if f.Sent != sizes[f.Remote.Port()] || f.Sends != 1 || f.Peer != wire.Peer_PEER_EXACT || f.Remote.Addr() != loopback(0).Addr() {
			t.Errorf("%+v, want %d bytes", f, sizes[f.Remote.Port()])
		}
	}
}

func TestReceiveWithoutAddressHasTheOnlyPeerThatDelivered(t *testing.T) {
	k := open(t, testOptions(t, "nameless"))
	from, to := newDatagram(t), newDatagram(t)
	for range 3 {
		from.send(to.port, 100)
		to.read()
	}
	flows := finish(t, k).flows(to.port)
	if len(flows) != 1 || flows[0].Received != 300 || flows[0].Peer != wire.Peer_PEER_EXACT || flows[0].Remote != loopback(from.port) {
		t.Errorf("%+v", flows)
	}
}

func TestReceiveWithoutAddressFromSeveralPeersSaysSo(t *testing.T) {
	k := open(t, testOptions(t, "several"))
	a, b, to := newDatagram(t), newDatagram(t), newDatagram(t)
	a.send(to.port, 100)
	b.send(to.port, 10)
	to.read()
	to.read()
	flows := finish(t, k).flows(to.port)
	if len(flows) != 1 || flows[0].Received != 110 || flows[0].Peer != wire.Peer_PEER_INFERRED || flows[0].Remote.IsValid() {
		t.Fatalf("%+v", flows)
	}
	want := map[netip.AddrPort]bool{loopback(a.port): true, loopback(b.port): true}
	for _, candidate := range flows[0].Candidates {
		delete(want, candidate)
	}
	if len(want) != 0 || len(flows[0].Candidates) != 2 {
		t.Errorf("candidates %v", flows[0].Candidates)
	}
}

func TestDatagramThatCameBeforeTheConnectIsNotThePeers(t *testing.T) {
	k := open(t, testOptions(t, "connect"))
	stranger, friend, to := newDatagram(t), newDatagram(t), newDatagram(t)
	stranger.send(to.port, 64)
	if err := unix.Connect(to.fd, &unix.SockaddrInet4{Port: int(friend.port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	to.read()
	flows := finish(t, k).flows(to.port)
	if len(flows) != 1 || flows[0].Peer != wire.Peer_PEER_INFERRED || flows[0].Received != 64 {
		t.Errorf("%+v", flows)
	}
}

func TestPeekedBytesAreCountedOnce(t *testing.T) {
	k := open(t, testOptions(t, "peek"))
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 77)
	if _, _, err := unix.Recvfrom(to.fd, make([]byte, 100), unix.MSG_PEEK); err != nil {
		t.Fatal(err)
	}
	to.read()
	if _, received, _, receives := total(finish(t, k).flows(to.port)); received != 77 || receives != 1 {
		t.Errorf("%d bytes in %d calls", received, receives)
	}
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

func TestNextHostTakesOverWhatIsNotJournaled(t *testing.T) {
	o := testOptions(t, "adopt")
	k := open(t, o)
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 1000)
	k.Abandon() // as kill -9 does
	from.send(to.port, 200)

	k = open(t, o)
	if !k.Adopted() || !k.Continued() {
		t.Fatal("probes were not taken over")
	}
	from.send(to.port, 30)
	s := finish(t, k)
	if sent, _, sends, _ := total(s.flows(from.port)); sent != 1230 || sends != 3 {
		t.Errorf("%d bytes in %d calls, want 1230 in 3", sent, sends)
	}
}

func TestWindowIsGivenAgainOnlyIfItIsNotJournaled(t *testing.T) {
	for name, journaled := range map[string]bool{"journaled": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t, "again-"+name)
			k := open(t, o)
			from, to := newDatagram(t), newDatagram(t)
			from.send(to.port, 1000)
			if err := k.drain(); err != nil {
				t.Fatal(err)
			}
			w := k.queue[len(k.queue)-1].(*Window)
			from.send(to.port, 200)
			k.Abandon() // before the window was released
			want := uint64(1200)
			if journaled {
				o.Position = w.Position
				want = 200
			}
			s := finish(t, open(t, o))
			if sent, _, _, _ := total(s.flows(from.port)); sent != want {
				t.Errorf("%d bytes, want %d", sent, want)
			}
		})
	}
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

func TestForeignPinDirectoryIsMovedAside(t *testing.T) {
	o := testOptions(t, "squat")
	if err := mountBPF(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(bpffs, "picosnitch-"+o.Instance)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 51000, 51000); err != nil {
		t.Fatal(err)
	}
	k := open(t, o)
	var st unix.Stat_t
	if err := unix.Lstat(k.root, &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o700 {
		t.Errorf("pins lie in a directory of uid %d, mode %o: %v", st.Uid, st.Mode, err)
	}
	finish(t, k)
	aside, err := filepath.Glob(dir + "-not-ours-*")
	if err != nil || len(aside) != 1 {
		t.Fatalf("moved aside: %v, %v", aside, err)
	}
	if err := os.Remove(aside[0]); err != nil {
		t.Error(err)
	}
}

func TestProbesOfAnotherVersionAreReplacedAndNothingIsLost(t *testing.T) {
	o := testOptions(t, "version")
	k := open(t, o)
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 1000)
	if err := k.drain(); err != nil { // a window that never was journaled
		t.Fatal(err)
	}
	from.send(to.port, 200)
	k.Abandon()
	from.send(to.port, 30)
	o.RingPages = 128 // another tag
	k = open(t, o)
	if k.Adopted() || !k.Continued() {
		t.Errorf("took over probes of another version: %t; went on counting: %t", k.Adopted(), k.Continued())
	}
	from.send(to.port, 4)
	flows := finish(t, k).flows(from.port)
	if sent, _, sends, _ := total(flows); sent != 1234 || sends != 4 {
		t.Errorf("%d bytes in %d calls, want 1234 in 4", sent, sends)
	}
	for _, f := range flows {
		if f.Counting != flows[0].Counting {
			t.Errorf("counted by %v and %v on one kernel", f.Counting, flows[0].Counting)
		}
	}
	if _, err := os.Lstat(k.root); !os.IsNotExist(err) {
		t.Errorf("pins are left after the end: %v", err)
	}
}

func TestWhatIsTakenForAbsentIsNotUsed(t *testing.T) {
	testOptions(t, "lacks")                                             // needs root
	hooks, err := Check([]string{"skb_copy_datagram_iovec", "sockops"}) // a tracepoint, and a kind of programs
	if err != nil {
		t.Fatal(err)
	}
	absent := []string{"peers of raw and ICMP sockets that receive", "connects that have no answer yet"}
	for _, h := range hooks {
		if missing := h.Way == ""; missing != slices.Contains(absent, h.Sees) || missing && !errors.Is(h.Failures[0], errAbsent) {
			t.Errorf("%s: by %q, after %v", h.Sees, h.Way, h.Failures)
		}
	}
}

func TestUnattendedProbesSwitchThemselvesOff(t *testing.T) {
	o := testOptions(t, "expire")
	k := open(t, o)
	var zero uint32
	var word kernelControl
	if err := k.control.Lookup(zero, &word); err != nil {
		t.Fatal(err)
	}
	word.Deadline = 1
	if err := k.control.Put(zero, &word); err != nil {
		t.Fatal(err)
	}
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 5)
	if err := k.control.Lookup(zero, &word); err != nil || word.Tag != 0 {
		t.Errorf("tag %x after the deadline, %v", word.Tag, err)
	}
	finish(t, k)
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
