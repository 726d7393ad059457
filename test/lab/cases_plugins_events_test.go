package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

const strangerUID = 51004

// liveEvent is a line of `events --json`.
type liveEvent struct {
	Kind, Name, Exe, Notice, Reason, Cause, Text string
	Domain                                       string
	Domains                                      []struct{ Domain, Source string }
	Sent, Received, Missed                       uint64
	PID                                          int
	SentRate                                     uint64 `json:"sent_rate"`
	ReceivedRate                                 uint64 `json:"received_rate"`
}

// reader is a running `events --json`.
type reader struct {
	d      *Daemon
	cmd    *exec.Cmd
	out    io.Reader
	errs   *bytes.Buffer
	cancel context.CancelFunc
	lines  chan liveEvent // closed at the end
}

// watch starts one, as a user. It ends with the test.
func (d *Daemon) watch(uid uint32, args ...string) *reader {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{d: d, cancel: cancel, errs: &bytes.Buffer{}, cmd: d.command(ctx, "events", append(append(args, "--json"), d.Directories()...)...)}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	r.cmd.Stderr = r.errs
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	r.out = out
	if err := r.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(r.end)
	return r
}

// begin reads on, from now.
func (r *reader) begin() {
	r.lines = make(chan liveEvent, 1<<16)
	go func() { // ends with the process, which end waits for
		defer close(r.lines)
		for in := bufio.NewScanner(r.out); in.Scan(); {
			var e liveEvent
			if json.Unmarshal(in.Bytes(), &e) != nil {
				e.Kind = "not JSON: " + in.Text()
			}
			r.lines <- e
		}
	}()
}

func (r *reader) end() {
	r.cancel()
	if r.lines != nil {
		for range r.lines {
		}
	}
	_ = r.cmd.Wait() // was killed
}

// find waits for the first line that fits, and says how long that took.
func (r *reader) find(what string, fits func(liveEvent) bool) (liveEvent, time.Duration) {
	r.d.t.Helper()
	start, late := time.Now(), time.After(Deadline())
	for {
		select {
		case e, ok := <-r.lines:
			if !ok {
				r.d.t.Fatalf("events ended before there was %s: %s", what, r.errs)
			}
			if strings.HasPrefix(e.Kind, "not JSON") {
				r.d.t.Errorf("events: %s", e.Kind)
			}
			if e.Kind == "flow" && e.PID == r.d.cmd.Process.Pid {
				r.d.t.Errorf("events shows the daemon's own canary: %+v", e)
			}
			if fits(e) {
				return e, time.Since(start)
			}
		case <-late:
			r.d.t.Fatalf("no %s among events after %v\n%s", what, Deadline(), r.d.LogTail())
		}
	}
}

// connected waits until the daemon shows the reader what goes on, for which something has to.
func (r *reader) connected() {
	r.d.t.Helper()
	for late := time.Now().Add(Deadline()); time.Now().Before(late); {
		r.d.Verb(ownerUID, "version", r.d.Directories()...)
		select {
		case _, ok := <-r.lines:
			if ok {
				return
			}
			r.d.t.Fatalf("events ended at once: %s", r.errs)
		case <-time.After(time.Second):
		}
	}
	r.d.t.Fatalf("events shows nothing after %v", Deadline())
}

// events shows the owner of the configuration, who is not root, what goes on while it does, and a stranger nothing.
func events(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.configure(settings{"Every exe (not just conns)": true, "DB write limit (seconds)": 2})
	d.Start()
	r := d.watch(ownerUID)
	r.begin()
	r.connected()

	c := NewCase(t, l, d)
	v := newConversation(c)
	exe := v.client.Identity().Exe
	v.exchange(4321)
	flow, took := r.find("flow", func(e liveEvent) bool { return e.Kind == "flow" && e.Exe == exe && e.SentRate > 0 })
	t.Logf("flow after %v, where 3s is the aim on a quiet machine: %+v", took.Round(time.Millisecond), flow)
	seen := map[string]bool{}
	r2 := c.Start("reader", c.Pair.B)
	r.find("exec and notices of a new program", func(e liveEvent) bool {
		if e.Exe == r2.Identity().Exe {
			seen[e.Kind+" "+e.Notice] = true
		}
		return seen["exec "] && seen["notice new-executable"]
	})
	r2.Finish()
	v.finish()

	a, b := packetPair(c, "packet")
	b.set("s", "rx-ring")
	a.Send("s", 200, 3)
	b.must(script.Command{Do: script.Receive, How: script.Frames, Name: "s", Times: 3})
	gap, _ := r.find("gap", func(e liveEvent) bool { return e.Kind == "gap" && strings.Contains(strings.ToLower(e.Cause), "ring") })
	t.Logf("gap: %+v", gap)
	a.Finish()
	b.Finish(func(e *Expectation) { e.Optional, e.AnyBytes = true, true })

	for _, words := range []string{"events", "plugins", "query --by exe", "plugins restart sqlite", "db export --format json -"} {
		args := strings.Fields(words)
		got := d.Verb(strangerUID, args[0], append(args[1:], d.Directories()...)...)
		if got.Code == 0 || got.Stderr == "" || strings.Contains(got.Stdout+got.Stderr, l.Dir+"/cases") {
			t.Errorf("%s as a stranger: exit code %d\n%s%s", words, got.Code, got.Stdout, got.Stderr)
		}
	}
	if got := d.Verb(strangerUID, "status", d.Directories()...); strings.Contains(got.Stdout+got.Stderr, l.Dir+"/cases") {
		t.Errorf("status shows a stranger names:\n%s", got.Stdout)
	}
	d.Stop()
}

// slowReader does not read while very many flows move: it is told how much it missed, and the daemon does not keep it.
func slowReader(t *testing.T, l *Lab) {
	d := NewDaemon(t, l, ownerUID)
	d.Start()
	slow, quick := d.watch(ownerUID, "--interval", "100ms"), d.watch(ownerUID)
	quick.begin()
	c := NewCase(t, l, d)
	c.Uneven()
	noisy := c.Start("noisy", c.Pair.A)
	noisy.must(script.Command{Do: script.Socket, Name: "f", Net: "udp4"})
	rounds := Size(60, 20)
	var memory []uint64 // after each round
	for round := range rounds {
		peers := make([]string, Size(1000, 300)) // others each time, so that there is nothing to sum up
		for i := range peers {
			peers[i] = fmt.Sprintf("127.%d.%d.%d:9", 1+round, 1+i/250, 1+i%250)
		}
		noisy.must(script.Command{Do: script.SendTo, Name: "f", Peers: peers, Bytes: 10, Times: 1})
		memory = append(memory, d.anonymous())
		time.Sleep(200 * time.Millisecond)
	}
	quick.find("a flow for the quick reader", func(e liveEvent) bool { return e.Kind == "flow" && e.Name == "noisy" })
	slow.begin()
	lagged, _ := slow.find("lagged", func(e liveEvent) bool { return e.Kind == "lagged" })
	// Between two collections it doubles; what it falls back to is what is kept. The first rounds make it warm.
	middle, last := slices.Min(memory[rounds/3:2*rounds/3]), slices.Min(memory[2*rounds/3:])
	t.Logf("missed %d; the daemon's own memory: at least %d MB, then %d MB (the machine is loaded)", lagged.Missed, middle>>20, last>>20)
	if lagged.Missed == 0 {
		t.Error("lagged without a number")
	}
	if last > middle+12<<20 {
		t.Errorf("the daemon's memory goes on growing: %d MB, then %d MB", middle>>20, last>>20)
	}
	d.Stop()
}

// anonymous is the daemon's own memory in bytes.
func (d *Daemon) anonymous() uint64 {
	d.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	d.t.Fatal("no RssAnon")
	return 0
}
