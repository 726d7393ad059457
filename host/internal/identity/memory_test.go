package identity

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/marks"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// storm makes up executions, forks and ends, always the same ones.
type storm struct {
	random  *rand.Rand
	table   *Table
	files   []capture.FileKey
	paths   []string
	boot    int64
	serial  uint32
	running []*capture.Process
	text    string
}

const (
	stormProcesses = 4096
	stormRunning   = 400
	stormFiles     = 4096
	stormUsers     = 20
	stormWindow    = 1000 // executions
)

// step starts a process, as an exec or as a fork of one that runs, and ends another.
func (s *storm) step() {
	s.serial++
	s.boot += int64(time.Millisecond)
	program := s.random.IntN(500)
	p := &capture.Process{
		Key: capture.Key{Tgid: s.serial % 32768, ExecID: s.serial, Start: s.boot}, Began: s.boot,
		Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS, Name: "storm", Arguments: s.arguments(),
		UID: s.random.Uint32N(stormUsers) * s.random.Uint32N(2), // half of all belongs to one user
	}
	var unknown uint64
	if s.random.IntN(32) == 0 { // a program that nobody has run before
		program, unknown = s.random.IntN(len(s.files)), uint64(s.serial)
	}
	if unknown != 0 || s.random.IntN(16) == 0 { // in a namespace of its own
		p.MountNS = 1 + s.random.Uint32N(1000)
	}
	p.File, p.Path = s.files[program], capture.Text{Value: capture.Bytes(s.paths[program]), Length: len(s.paths[program])}
	p.File.Superblock += unknown
	if len(s.running) > 0 {
		parent := s.running[s.random.IntN(len(s.running))]
		p.Parent = parent.Key
		if s.random.IntN(3) == 0 {
			p.Forked, p.File, p.Path, p.Arguments, p.UID = true, parent.File, parent.Path, parent.Arguments, parent.UID
		}
	}
	s.table.Observe(p)
	s.running = append(s.running, p)
	if len(s.running) > stormRunning {
		i := s.random.IntN(len(s.running))
		s.table.End(&capture.Exit{Key: s.running[i].Key, Time: s.boot})
		s.running[i] = s.running[len(s.running)-1]
		s.running = s.running[:len(s.running)-1]
	}
	if s.serial%stormWindow == 0 {
		s.window()
	}
}

func (s *storm) arguments() capture.Text {
	length := s.random.IntN(60)
	if s.random.IntN(50) == 0 {
		length = s.random.IntN(4096)
	}
	return capture.Text{Value: capture.Bytes(strings.Clone(s.text[:length])), Length: length}
}

// window is what the pipeline does with one.
func (s *storm) window() {
	keys := []capture.Key{}
	for _, p := range s.running[:20] {
		keys = append(keys, p.Key)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.table.Await(ctx, keys)
	for _, key := range keys {
		s.table.LineageOf(key)
		s.table.Chain(key)
	}
	s.table.Recorded(s.boot - int64(time.Second))
	s.table.Forgotten()
	s.table.Late()
	s.table.Forgeries()
}

// heap waits until the workers have nothing to do, so that what is left is what is kept.
func (s *storm) heap(t *testing.T) float64 {
	t.Helper()
	s.window()
	waitFor(t, func() bool { return len(s.table.workers.opens) == 0 && s.table.Counters().Hashing == 0 })
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// TestTwoMillionExecutionsNeedTheMemoryOfAQuarter is not parallel: it looks at the heap of the whole process.
func TestTwoMillionExecutionsNeedTheMemoryOfAQuarter(t *testing.T) {
	executions := 2_000_000
	if raceDetector {
		executions /= 8
	}
	m := newMachine(t, nil)
	s := &storm{random: rand.New(rand.NewPCG(1, 2)), text: strings.Repeat("argument ", 500), boot: 1}
	dir := t.TempDir()
	for i := range stormFiles {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		s.files, s.paths = append(s.files, keyOfFile(t, path)), append(s.paths, path)
	}
	ctime := s.files[stormFiles-1].Ctime
	s.table = New(Options{
		ProcRoot: m.proc, HostMountNS: mountNS, MaxProcesses: stormProcesses, MaxExecutables: 1024, MaxText: 256 << 10, MaxFiles: 256,
		Now: func() capture.Moment { return capture.Moment{UTC: ctime + s.boot + int64(time.Hour), Boot: s.boot} },
	})
	s.table.Mounts(tableOfHost(t, s.paths[0], 1, marks.Local))
	defer func() {
		if err := s.table.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	var heaps [3]float64
	for i, part := range []int{executions / 4, executions / 4, executions / 2} {
		for range part {
			s.step()
		}
		heaps[i] = s.heap(t)
	}
	t.Logf("heap %.2f MB at 25 %%, %.2f at 50 %%, %.2f at 100 %%; %v an execution; %+v", heaps[0]/1e6, heaps[1]/1e6, heaps[2]/1e6,
		time.Since(began)/time.Duration(executions), s.table.Counters())
	if raceDetector { // it keeps memory of its own, and so few executions do not fill everything
		return
	}
	for _, heap := range heaps[1:] {
		if heap > 1.05*heaps[0] {
			t.Errorf("%.2f MB, and a quarter needed %.2f", heap/1e6, heaps[0]/1e6)
		}
	}
	if c := s.table.Counters(); c.ExecutablesEvicted == 0 || c.ViewsEvicted == 0 || c.RefusedShare+c.Refused == 0 || c.TextsCut == 0 {
		t.Errorf("a limit that was never reached: %+v", c)
	}
}
