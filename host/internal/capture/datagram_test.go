package capture

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

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
