package lab

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/test/need"
)

// TestMain lets many cases run at once: they spend their time waiting for the write window. A number given by hand
// stays.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "12"); err != nil {
			fmt.Fprintln(os.Stderr, "set test.parallel:", err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}

type scenario struct {
	name string
	run  func(*Case)
}

// shared are the scenarios that one daemon watches all at once.
func shared() []scenario {
	return []scenario{
		{"tcp4", tcpBothWays("tcp4", across4)},
		{"tcp6", tcpBothWays("tcp6", across6)},
		{"tcp4-loopback", tcpBothWays("tcp4", inside4)},
		{"tcp6-loopback", tcpBothWays("tcp6", inside6)},
		{"tcp4-host-loopback", tcpBothWays("tcp4", onHost4)},
		{"tcp-mapped", tcpMapped},
		{"tcp-bulk", tcpBulk},
		{"tcp-many-connections", tcpManyConnections},
		{"tcp-read-and-peek", tcpRead},
		{"tcp-end-of-stream", tcpEnd},
		{"tcp-refused", tcpRefused},
		{"tcp-pending", tcpPending},
		{"tcp-listen-only", tcpListen},
		{"tcp-silent", tcpSilent},
		{"udp4-connected", udpConnected("udp4", across4)},
		{"udp6-connected", udpConnected("udp6", across6)},
		{"udp4-loopback", udpConnected("udp4", inside4)},
		{"udp6-loopback", udpConnected("udp6", inside6)},
		{"udp4-50-peers", udpManyPeers("udp4", func(s *Space) netip.Addr { return s.V4 })},
		{"udp6-50-peers", udpManyPeers("udp6", func(s *Space) netip.Addr { return s.V6 })},
		{"udp-nameless-recv", udpNamelessOne("receive")},
		{"udp-nameless-read", udpNamelessOne("read")},
		{"udp-nameless-5-peers", udpNamelessMany},
		{"udp-any-address", udpAnyAddress},
		{"udp-empty", udpEmpty},
		{"udp-peek", udpPeek},
		{"short-lived", shortLivedProcesses},
		{"two-users", twoUsers},
		{"arguments", manyArguments},
		{"twins", twins},
		{"odd-name", oddName},
		{"long-name", longName},
		{"threads", manyThreads},
		{"fork", forkShares},
		{"exec", execKeepsSocket},
		{"child", childUsesSocket},
		{"parent-gone", parentGone},
	}
}

// paths are the ways onto the network (docs/coverage.md is made of their results).
func paths() []scenario {
	return slices.Concat(tcpPaths(), ringPaths(), udpPaths(), rawPaths(), packetPaths(), publicPaths())
}

// TestLab compares every row of the real daemon with what the generators did.
func TestLab(t *testing.T) {
	l := New(t, true)
	record, err := newResults()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("shared", func(t *testing.T) {
		d := NewDaemon(t, l, 0)
		d.Start()
		t.Run("cases", func(t *testing.T) {
			for _, s := range slices.Concat(shared(), identityCases(), nameCases(), paths()) {
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					c := NewCase(t, l, d)
					record.watch(t, s.name, c.Outcome)
					s.run(c)
				})
			}
		})
		d.Stop() // compares every case once more
	})
	t.Run("own", func(t *testing.T) {
		seats := make(chan struct{}, seats())
		for _, s := range own() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				seats <- struct{}{}
				t.Cleanup(func() { <-seats }) // runs last: after the daemon is gone
				record.watch(t, s.name, func() (string, string) { return Exact, "" })
				s.run(t, l)
			})
		}
	})
	t.Run("volume", func(t *testing.T) {
		for _, s := range volume() {
			t.Run(s.name, func(t *testing.T) {
				full := Size(1, 0) == 1
				record.watch(t, s.name, func() (string, string) { return volumeOutcome(full) })
				if !full {
					need.Skip(t, "full size only")
				}
				s.run(t, l)
			})
		}
	})
	if err := record.write(); err != nil {
		t.Error(err)
	}
}

// seats is how many daemons may run at once. Where fexit counts, one that attaches has others miss what calls under way
// have moved, and say so: nothing that a case expects.
func seats() int {
	symbols, err := os.ReadFile("/proc/kallsyms")
	if err != nil || !bytes.Contains(symbols, []byte(" __traceiter_sock_recv_length\n")) {
		return 1
	}
	return Size(4, 2)
}

// volumeOutcome is that of a case which passed, or was skipped for its size.
func volumeOutcome(full bool) (result, why string) {
	if !full {
		return Skipped, "full size only"
	}
	return Exact, ""
}

// TestGenerators runs the scenarios without a daemon: both ends of each must agree with each other.
func TestGenerators(t *testing.T) {
	l := New(t, false)
	for _, s := range slices.Concat(shared(), paths()) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := NewCase(t, l, nil)
			s.run(c)
			for _, e := range c.wanted() {
				if e.Key.Process.SHA256 == "" || !strings.HasPrefix(e.Key.Process.Exe, l.Dir) {
					t.Errorf("generator of unknown origin: %+v", e.Key.Process)
				}
			}
		})
	}
}
