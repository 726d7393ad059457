package canary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf/link"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/test/need"
)

// rig is a canary above real probes.
type rig struct {
	t        *testing.T
	instance string
	kernel   *capture.Kernel
	canary   *Canary
	verdicts chan Verdict
	reattach chan chan error

	mu       sync.Mutex
	flows    []capture.Flow    // that were left in windows, of this process
	programs []capture.FileKey // that were left
}

func newRig(t *testing.T, name string) *rig {
	t.Helper()
	need.Root(t, "load BPF programs")
	r := &rig{
		t: t, instance: fmt.Sprintf("test-%d-canary-%s", os.Getpid(), name),
		verdicts: make(chan Verdict, 16), reattach: make(chan chan error, 1),
	}
	k, err := capture.Open(capture.Options{
		Instance: r.instance, Interval: time.Second, RingPages: 64, Secret: []byte("0123456789abcdef"),
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.kernel = k
	r.canary = New(Options{
		Hooks: k.Hooks(), FileKey: k.FileKey, Keep: func([]uint64) error { return nil }, Now: capture.Now,
		Every: time.Millisecond, ExecEvery: time.Millisecond,
	})
	var reading sync.WaitGroup
	reading.Go(r.read)
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		reading.Wait()
		r.canary.Close()
	})
	return r
}

// read is what the pipeline does.
func (r *rig) read() {
	for {
		event, err := r.kernel.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.t.Error(err)
			return
		}
		switch e := event.(type) {
		case *capture.Process:
			if !r.canary.Process(e) {
				r.keep(nil, e)
			}
		case *capture.Exit:
			r.canary.Exit(e)
		case *capture.Window:
			if v, ok := r.canary.Window(e); ok {
				r.verdicts <- v
			}
			r.keep(e.Flows, nil)
			select {
			case done := <-r.reattach:
				done <- r.kernel.Reattach()
			default:
			}
			if err := r.kernel.Release(e.Generation); err != nil {
				r.t.Error(err)
			}
		}
	}
}

func (r *rig) keep(flows []capture.Flow, p *capture.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p != nil && !p.Forked {
		r.programs = append(r.programs, p.File)
	}
	for _, f := range flows {
		if f.Process.Tgid == uint32(os.Getpid()) && f.Sent+f.Received+f.Connects+f.Listens+f.Accepts > 0 {
			r.flows = append(r.flows, f)
		}
	}
}

// verdict moves an exchange and waits for what becomes of it.
func (r *rig) verdict() Verdict {
	r.t.Helper()
	end := time.After(30 * time.Second)
	for {
		if err := r.canary.Tick(); err != nil {
			r.t.Fatal(err)
		}
		select {
		case v := <-r.verdicts:
			return v
		case <-time.After(20 * time.Millisecond):
		case <-end:
			r.t.Fatalf("no verdict; %+v", r.canary.Counters())
		}
	}
}

// detach takes a cgroup program away behind everybody's back.
func (r *rig) detach(program string) {
	r.t.Helper()
	paths, err := filepath.Glob("/sys/fs/bpf/picosnitch-" + r.instance + "/*/links/" + program)
	if err != nil || len(paths) != 1 {
		r.t.Fatalf("pins of %s: %v, %v", program, paths, err)
	}
	l, err := link.LoadPinnedLink(paths[0], nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		r.t.Fatal(err)
	}
}

func TestEverythingComesBackAndLeavesNoTrace(t *testing.T) {
	t.Parallel()
	r := newRig(t, "well")
	for range 3 {
		if v := r.verdict(); len(v.Blind) > 0 {
			t.Errorf("blind for %q", v.Blind)
		}
	}
	c := r.canary.Counters()
	if c.Exchanges < 3 || c.Executions < 3 || c.Lost > 0 || c.Flows == 0 {
		t.Errorf("%+v", c)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flows {
		if r.canary.Owns(&f) || f.Socket == 0 {
			t.Errorf("left in the window: %+v", f)
		}
	}
	r.canary.mu.Lock()
	defer r.canary.mu.Unlock()
	if r.canary.file == (capture.FileKey{}) || slices.Contains(r.programs, r.canary.file) {
		t.Error("the tiny program was not taken out")
	}
}

func TestBlindHookIsNamedAndSeesAgainAfterReattach(t *testing.T) {
	t.Parallel()
	for program, sense := range map[string]sense{"send_to_v4": peersSentV4, "receive_v4": peersReceivedV4, "arrive": peersDelivered} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, program)
			well := r.verdict()
			if len(well.Blind) > 0 {
				t.Fatalf("blind for %q", well.Blind)
			}
			r.detach(program)
			v := r.verdict()
			for len(v.Blind) == 0 { // an exchange that was on its way
				well = v
				v = r.verdict()
			}
			if !slices.Contains(v.Blind, r.canary.words[sense]) {
				t.Errorf("blind for %q, want %q", v.Blind, r.canary.words[sense])
			}
			if v.Since != well.Since {
				t.Errorf("since %v, want %v", v.Since, well.Since)
			}
			done := make(chan error, 1)
			r.reattach <- done
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for range 3 { // one may have been on its way
				if v = r.verdict(); len(v.Blind) == 0 {
					return
				}
			}
			t.Errorf("still blind for %q", v.Blind)
		})
	}
}

func TestExchangeIsCheap(t *testing.T) {
	t.Parallel()
	need.Root(t, "load BPF programs")
	s, err := makeSockets()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.connect(); err != nil {
		t.Fatal(err)
	}
	fd, err := makeProgram()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const rounds = 100
	start := time.Now()
	for range rounds {
		if err := s.exchange(); err != nil {
			t.Fatal(err)
		}
	}
	moved := time.Since(start)
	start = time.Now()
	for range rounds {
		if err := execute(fd); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("an exchange takes %v, an execution %v", moved/rounds, time.Since(start)/rounds)
}
