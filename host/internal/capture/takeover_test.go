package capture

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

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

func TestTwoHostsDoNotShareAnInstance(t *testing.T) {
	o := testOptions(t, "shared")
	first := open(t, o)
	if second, err := Open(o); !errors.Is(err, errClaimed) {
		if err == nil {
			second.Abandon()
		}
		t.Errorf("error = %v, want errClaimed", err)
	}
	from, to := newDatagram(t), newDatagram(t)
	from.send(to.port, 1000)
	s := finish(t, first)
	if sent, _, _, _ := total(s.flows(from.port)); sent != 1000 {
		t.Errorf("%d bytes, want 1000", sent)
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
