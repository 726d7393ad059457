package capture

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// received is how many bytes the probes see of a datagram of that many bytes on a new socket.
func received(t *testing.T, k *Kernel, from *datagram, length int) (uint16, func(*seen) uint64) {
	t.Helper()
	to := newDatagram(t)
	from.send(to.port, length)
	to.read()
	return to.port, func(s *seen) uint64 {
		_, bytes, _, _ := total(s.flows(to.port))
		return bytes
	}
}

func TestReattachMakesBlindProbesSeeAgain(t *testing.T) {
	k := open(t, testOptions(t, "reattach"))
	before := k.Links()
	from := newDatagram(t)
	_, first := received(t, k, from, 10)
	for _, program := range []string{kernelProgSockReceive, kernelProgInetReceive} {
		if k.objects.links[program] != nil {
			k.objects.links[program].Close()                               // ours is the only descriptor,
			if err := os.Remove(k.objects.linkPath(program)); err != nil { // and this the only pin: it is detached
				t.Fatal(err)
			}
		}
	}
	time.Sleep(50 * time.Millisecond) // the kernel lets go of it a grace period later
	_, blind := received(t, k, from, 100)
	if err := k.Reattach(); err != nil {
		t.Fatal(err)
	}
	_, again := received(t, k, from, 1000)
	if after := k.Links(); !slices.Equal(before, after) {
		t.Errorf("links %v, want %v", after, before)
	}
	for _, name := range before {
		if _, err := os.Lstat(k.objects.linkPath(name)); err != nil {
			t.Errorf("pin: %v", err)
		}
	}
	s := finish(t, k)
	if a, b, c := first(s), blind(s), again(s); a != 10 || b != 0 || c != 1000 {
		t.Errorf("received %d, blind %d, again %d; want 10, 0, 1000", a, b, c)
	}
}

func TestReattachOfTakenOverProbesLosesAndDoublesNothing(t *testing.T) {
	o := testOptions(t, "renew")
	first := open(t, o)
	first.Abandon()
	k := open(t, o)
	if !k.Adopted() {
		t.Fatal("not taken over")
	}
	from := newDatagram(t)
	_, before := received(t, k, from, 7)
	if err := k.Reattach(); err != nil {
		t.Fatal(err)
	}
	_, after := received(t, k, from, 70)
	k.Abandon()
	k = open(t, o) // the new pins can be taken over
	for _, h := range k.Hooks() {
		if h.Way == "" && h.Essential {
			t.Errorf("no way for %s", h.Sees)
		}
	}
	s := finish(t, k)
	if a, b := before(s), after(s); a != 7 || b != 70 {
		t.Errorf("received %d and %d, want 7 and 70", a, b)
	}
}

func TestHookThatAKilledHostLeftDownIsAttachedByTheNext(t *testing.T) {
	o := testOptions(t, "short")
	first := open(t, o)
	first.objects.drop(kernelProgSendToV4)
	first.Abandon()
	k := open(t, o)
	down := func() bool {
		return slices.ContainsFunc(k.Hooks(), func(h Hook) bool { return h.Sees == "peers of IPv4 datagrams that are sent" && h.Way == "" })
	}
	if !down() {
		t.Error("a dropped hook still has a way")
	}
	if err := k.AttachMissing(); err != nil {
		t.Fatal(err)
	}
	if down() || !slices.Contains(k.Links(), kernelProgSendToV4) {
		t.Error("it was not attached again")
	}
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 9)
	if flows := finish(t, k).flows(from.port); len(flows) != 1 || flows[0].Remote != loopback(to.port) {
		t.Errorf("%+v", flows)
	}
}

func TestProbesThatNobodyDrainsSaySinceWhenTheyAreOff(t *testing.T) {
	o := testOptions(t, "off")
	k := open(t, o)
	if _, off, err := Off(o.Instance); off || err != nil {
		t.Fatalf("at work: off %v, %v", off, err)
	}
	deadline := Now().Boot - int64(time.Second)
	var word kernelControl
	if err := k.control.Lookup(uint32(0), &word); err != nil {
		t.Fatal(err)
	}
	word.Deadline = uint64(deadline)
	if err := k.control.Put(uint32(0), &word); err != nil {
		t.Fatal(err)
	}
	from := newDatagram(t)
	_, missed := received(t, k, from, 10) // a new entry: the programs look at the deadline
	since, off, err := Off(o.Instance)
	if err != nil || !off || since.Boot != deadline {
		t.Errorf("since %v, off %v, %v; want %d", since, off, err, deadline)
	}
	k.Abandon()
	k = open(t, o)
	if err := k.Rescan(); err != nil {
		t.Fatal(err)
	}
	_, seen := received(t, k, from, 100)
	s := finish(t, k)
	if a, b := missed(s), seen(s); a != 0 || b != 100 {
		t.Errorf("received %d while off, %d after; want 0, 100", a, b)
	}
}

func TestNothingIsOffWithoutProbes(t *testing.T) {
	o := testOptions(t, "none")
	if _, off, err := Off(o.Instance); off || err != nil {
		t.Errorf("off %v, %v", off, err)
	}
}

func TestExpiryOfALivingHostEndsWithItsWindow(t *testing.T) {
	t.Parallel()
	k := &Kernel{options: Options{Interval: time.Second}}
	minutes := func(m int64) int64 { return m * int64(time.Minute) }
	w := &Window{Start: Moment{UTC: minutes(100), Boot: minutes(1)}, End: Moment{UTC: minutes(130), Boot: minutes(31)}}
	if _, ok := k.Expired(w); ok {
		t.Error("expired without a loss")
	}
	other := Loss{Cause: "flow map full", Events: 1, Exact: true}
	w.Losses = []Loss{{Cause: expiredCause(), Events: 2}, other}
	since, ok := k.Expired(w)
	if want := minutes(110) + int64(time.Second); !ok || since.UTC != want {
		t.Errorf("since %v, %v; want %d", since, ok, want)
	}
	if fmt.Sprint(w.Losses) != fmt.Sprint([]Loss{other}) {
		t.Errorf("losses left: %v", w.Losses)
	}
}
