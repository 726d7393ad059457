package lab

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab/script"
	"github.com/picosnitch/picosnitch/test/need"
)

// volume are the scenarios that need the whole machine: one after the other, and not in a guest.
func volume() []ownScenario {
	return []ownScenario{
		{"kill-host-under-load", killHostUnderLoad},
		{"100000-flows", manyFlows},
		{"storm", storm},
		{"distinct-binaries", distinctBinaries},
		{"exec-storm", execStorm},
	}
}

// killHostUnderLoad kills the daemon while bytes move, leaves it down for ten seconds in which they go on, and starts it
// again: no byte is missing and none comes twice. Processes come and go meanwhile.
func killHostUnderLoad(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, 0)
	d.Start()
	v := newLoad(t, l, d)
	nest := v.c.Start("nest", v.c.Pair.B)
	address := nest.Listen("l", "tcp4", v.c.Pair.B.V4)
	path := v.c.Binary("mayfly")
	number := 0
	mayflies := func() {
		for range 10 {
			v.c.mayfly(path, address, 100+number, number)
			nest.Accept("l", "s")
			nest.Receive("s", 1<<20)
			nest.must(script.Command{Do: script.Close, Name: "s"})
			number++
		}
	}
	mayflies()
	time.Sleep(1500 * time.Millisecond)
	d.Kill()
	mayflies()
	time.Sleep(10 * time.Second)
	d.Start()
	mayflies()
	v.settle()
	nest.Finish()
	v.c.Check()
	d.Stop()
}

// settle stops the sender and waits until the receiver has everything.
func (v *load) settle() {
	v.c.Helper()
	v.client.must(script.Command{Do: script.Halt})
	sent := bytesOf(v.client.Facts(), func(f script.Flow) uint64 { return f.Sent })
	for end := time.Now().Add(Deadline()); ; time.Sleep(20 * time.Millisecond) {
		got := bytesOf(v.server.Facts(), func(f script.Flow) uint64 { return f.Received })
		if got == sent {
			break
		}
		if time.Now().After(end) {
			v.c.Fatalf("%d bytes sent, %d received after %v", sent, got, Deadline())
		}
	}
	v.c.Logf("%d bytes moved", sent)
	v.client.Finish()
	v.server.Finish()
}

func bytesOf(a *script.Account, which func(script.Flow) uint64) (sum uint64) {
	for _, f := range a.Flows {
		sum += which(f)
	}
	return sum
}

// manyFlows has 100,000 flows at once, of eight users and processes. Each has as many rows with a peer as its share of a
// window's rows, and the sums of all of its rows are exact.
func manyFlows(t *testing.T, l *Lab) {
	const users, each, share = 8, 12_500, 4_000
	d := NewDaemon(t, l, 0)
	d.WriteConfig(strings.Replace(defaultConfig(), `(seconds)": 1`, `(seconds)": 5`, 1))
	d.Start()
	c := NewCase(t, l, d)
	var waits []func()
	var crowd []*Puppet
	for i := range users {
		p := c.StartAs(secondUID+i, c.Binary(fmt.Sprint("user", i)), c.Pair.A)
		p.must(script.Command{Do: script.Socket, Name: "f", Net: "udp4"})
		crowd = append(crowd, p)
	}
	start := time.Now()
	for _, p := range crowd {
		waits = append(waits, p.Later(script.Command{Do: script.Flood, Name: "f", Times: each}))
	}
	for _, wait := range waits {
		wait()
	}
	t.Logf("%d flows in %v", users*each, time.Since(start).Round(time.Millisecond))
	for _, p := range crowd {
		p.Finish()
	}
	c.Check()
	rows, err := readRows(t.Context(), d.Database(), c.filter())
	if err != nil {
		t.Fatal(err)
	}
	peers := map[string]int{}
	for _, r := range rows {
		if r.Key.Raddr != "" {
			peers[r.Key.Process.Name]++
		}
	}
	t.Logf("rows with a peer: %v", peers)
	for i := range users {
		if n := peers[fmt.Sprint("user", i)]; n < share {
			t.Errorf("user %d has only %d rows with a peer", i, n)
		}
	}
	d.Stop()
}

// storm starts processes as fast as two cores can for ten seconds; each connects, sends and ends. Every byte is in a
// row, or a gap says how many are not; every process that no row names is counted in a gap, too.
func storm(t *testing.T, l *Lab) {
	need.Have(t, "amd64 (the mayflies are machine code)", runtime.GOARCH == "amd64")
	d := NewDaemon(t, l, 0)
	d.Start()
	c := NewCase(t, l, d)
	server, source := c.Start("server", c.Pair.A), c.Start("source", c.Pair.A)
	address := netip.MustParseAddrPort(server.Listen("l", "tcp4", netip.IPv4Unspecified()))
	server.must(script.Command{Do: script.Swallow, Name: "l"})
	programs := c.mayflies(address.Port())
	start := time.Now()
	r := source.must(script.Command{Do: script.Storm, Peers: programs, Threads: 2, Millis: 10_000})
	rate := float64(r.Calls) / time.Since(start).Seconds()
	t.Logf("%d processes, %.0f a second, %d bytes", r.Calls, rate, r.Bytes)
	if rate < 1000 {
		t.Errorf("only %.0f processes a second: no storm", rate)
	}
	s := stormTruth{sent: r.Bytes, processes: r.Calls, parent: source.Identity(), server: server.Identity()}
	for end := time.Now().Add(Deadline()); server.received() < r.Bytes && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	s.received = server.received()
	c.checkStorm(s)
	d.Stop()
}

func (p *Puppet) received() uint64 {
	p.c.Helper()
	return bytesOf(p.Facts(), func(f script.Flow) uint64 { return f.Received })
}

// mayflies makes eight programs for eight addresses: one would run out of ports.
func (c *Case) mayflies(port uint16) []string {
	c.Helper()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		c.Fatal(err)
	}
	var out []string
	for i := range byte(8) {
		path := filepath.Join(c.dir, fmt.Sprint("mayfly", i))
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1 + i}), port)
		if err := writeExecutable(path, buildMayfly(to, uint32(i))); err != nil {
			c.Fatal(err)
		}
		out = append(out, path)
	}
	return out
}

// stormTruth is what the processes said.
type stormTruth struct {
	sent, received, processes uint64
	parent, server            Identity
}

// stormSums is what rows and gaps say.
type stormSums struct {
	sent, received       uint64 // in rows
	lostSent, lostTaken  uint64 // in gaps
	named, nameless      uint64 // sends of rows with and without the right program
	lostEvents, foldRows uint64
	gaps                 []Gap
}

// checkStorm waits until rows and gaps together account for everything.
func (c *Case) checkStorm(truth stormTruth) {
	c.Helper()
	for end := time.Now().Add(Deadline()); ; time.Sleep(500 * time.Millisecond) {
		s, err := c.sumStorm(truth)
		if err == nil && s.sent+s.lostSent == truth.sent && s.received+s.lostTaken == truth.received &&
			s.nameless <= s.lostEvents {
			c.Logf("%d rows' processes named, %d not; gaps: %+v", s.named, s.nameless, s.gaps)
			return
		}
		if time.Now().After(end) {
			c.Fatalf("%d processes sent %d, %d bytes were received; rows and gaps say %+v, %v\n%s",
				truth.processes, truth.sent, truth.received, s, err, c.Daemon.LogTail())
		}
	}
}

func (c *Case) sumStorm(truth stormTruth) (s stormSums, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), Deadline())
	defer cancel()
	rows, err := readRows(ctx, c.Daemon.Database(), c.filter())
	if err != nil {
		return s, err
	}
	for _, r := range rows {
		s.sent, s.received = s.sent+r.Sums.Sent, s.received+r.Sums.Received
		sum, err := c.Lab.hash(r.Key.Process.Exe)
		right := err == nil && sum == r.Key.Process.SHA256 && r.Key.Parent == truth.parent
		switch {
		case r.Sums.Sent == 0:
		case right:
			s.named += r.Sums.Sends
		default:
			s.nameless += r.Sums.Sends
		}
		if r.Peer == "folded" {
			s.foldRows++
		}
	}
	s.gaps, err = readGaps(ctx, c.Daemon.Database())
	for _, g := range s.gaps {
		s.lostSent, s.lostTaken, s.lostEvents = s.lostSent+g.Sent, s.lostTaken+g.Received, s.lostEvents+g.Events
	}
	return s, err
}

// distinctBinaries runs ten thousand programs once each: all are gone before anybody could look at them, and every one has
// its own hash in its own row.
func distinctBinaries(t *testing.T, l *Lab) {
	need.Have(t, "amd64 (the mayflies are machine code)", runtime.GOARCH == "amd64")
	const count = 10_000
	d := NewDaemon(t, l, 0)
	d.Start()
	c := NewCase(t, l, d)
	server := c.Start("server", c.Pair.A)
	address := netip.MustParseAddrPort(server.Listen("l", "tcp4", netip.MustParseAddr("127.0.0.1")))
	server.must(script.Command{Do: script.Swallow, Name: "l"})
	programs := c.distinct(count, address)
	start := time.Now()
	c.runEach(slices.Sorted(maps.Keys(programs)))
	took := time.Since(start)
	t.Logf("%d programs in %v, %.0f a second", count, took.Round(time.Millisecond), count/took.Seconds())
	for end := time.Now().Add(Deadline()); ; time.Sleep(500 * time.Millisecond) {
		right, wrong, err := c.hashed(programs)
		if err == nil && right == count && len(wrong) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d hashes are right; others: %q, %v\n%s", right, count, wrong, err, d.LogTail())
		}
	}
	t.Logf("all hashes right %v after the first start", time.Since(start).Round(time.Millisecond))
	late := filepath.Join(c.place("late"), "late")
	if err := writeExecutable(late, buildMayfly(address, count)); err != nil {
		t.Fatal(err)
	}
	c.runEach([]string{late})
	c.CheckNotice("late " + late)
	d.Stop()
	wantForgotten(t, d, c.place("distinct"), late)
}

// wantForgotten looks at the files after one user ran more programs than are remembered of it: the last one is there, of
// the others the newest, and exe.log is shorter than their number.
func wantForgotten(t *testing.T, d *Daemon, dir, last string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(d.Config, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Executables map[string][]string
		Names       map[string][]string
		SHA256      map[string]map[string]string
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for path := range list.Executables {
		if strings.HasPrefix(path, dir+"/") {
			kept++
		}
	}
	if hashes := list.SHA256[last]; kept < 1000 || kept > 2500 || len(list.Executables[last]) != 1 || len(list.Names["late"]) != 1 || len(hashes) != 1 {
		t.Errorf("record.json: %d of the others, %v, %v, %v", kept, list.Executables[last], list.Names["late"], hashes)
	}
	log := readLines(t, filepath.Join(d.Config, "exe.log"))
	ends := func(words string) bool {
		return slices.ContainsFunc(log, func(line string) bool { return strings.HasSuffix(line, words) })
	}
	if !ends(last+" (new name, exe)") || !ends(last+" (new hash)") || !ends(" more lines)") || len(log) > 10_000 {
		t.Errorf("exe.log: %d lines, the last %q", len(log), log[max(0, len(log)-5):])
	}
}

// distinct makes programs of different contents; the values are their hashes.
func (c *Case) distinct(count int, to netip.AddrPort) map[string]string {
	c.Helper()
	dir := c.place("distinct")
	programs := make(map[string]string, count)
	for i := range count {
		path, content := filepath.Join(dir, fmt.Sprintf("program%05d", i)), buildMayfly(to, uint32(i))
		if err := writeExecutable(path, content); err != nil {
			c.Fatal(err)
		}
		programs[path] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	return programs
}

// runEach runs programs in the case's namespace, a few at a time.
func (c *Case) runEach(paths []string) {
	c.Helper()
	work := make(chan string)
	var crew sync.WaitGroup
	for range 4 {
		crew.Go(func() {
			err := c.Pair.A.Do(func() error {
				for path := range work {
					// Its exit code is how much it sent.
					if err := exec.Command(path).Run(); err == nil || err.(*exec.ExitError).ExitCode() != mayflyBytes {
						c.Errorf("run %s: %v", path, err)
					}
				}
				return nil
			})
			if err != nil {
				c.Error(err)
			}
		})
	}
	for _, path := range paths {
		work <- path
	}
	close(work)
	crew.Wait()
}

// hashed counts the programs whose row has the right hash, and names some of those that have another one or none.
func (c *Case) hashed(programs map[string]string) (int, []string, error) {
	var wrong []string
	ctx, cancel := context.WithTimeout(c.Context(), Deadline())
	defer cancel()
	rows, err := readRows(ctx, c.Daemon.Database(), c.filter())
	if err != nil {
		return 0, nil, err
	}
	seen := map[string]bool{}
	for _, r := range rows {
		want, ok := programs[r.Key.Process.Exe]
		switch {
		case !ok && r.Key.Process.Name == "server":
		case ok && want == r.Key.Process.SHA256:
			seen[r.Key.Process.Exe] = true // a connection that lasts from one window to the next has two rows
		case len(wrong) < 5:
			wrong = append(wrong, r.Key.Process.Exe+" "+r.Key.Process.SHA256)
		}
	}
	return len(seen), wrong, nil
}
