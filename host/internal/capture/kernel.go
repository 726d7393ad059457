package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// patience is how long the programs go on counting when nobody drains them.
const patience = 10 * time.Minute

// Kernel is the [Source] that runs on BPF programs.
type Kernel struct {
	options Options
	objects *objects
	control *ebpf.Map
	root    string   // pin directory of the instance
	claim   *os.File // keeps other hosts from the instance
	bootID  string
	convert *converter
	events  *ringbuf.Reader
	record  ringbuf.Record
	losses  *lossLedger
	owed    []Loss // for the next window

	continued bool

	queue   []Event   // seen, not yet given out by Next; only Next touches it and the next two
	ended   int       // process instances, since the last drain
	drained time.Time // last

	mu         sync.Mutex
	closing    bool
	generation uint64     // counted into now
	began      int64      // boot ns
	held       *leftover  // whose window is out and not released
	left       []leftover // of hosts before this one, to be given out first
	due        time.Time
	finished   bool
}

// Open loads and attaches the programs, or takes over what a host of the same version and instance left running. From
// its return on everything is counted.
func Open(o Options) (*Kernel, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	k := &Kernel{options: o}
	if err := k.open(); err != nil {
		k.release()
		return nil, errors.Join(fmt.Errorf("open capture: %w", err), removeUnused(k.root))
	}
	return k, nil
}

func (k *Kernel) open() error {
	var err error
	if k.bootID, err = BootID(); err != nil {
		return err
	}
	root, err := pinDir(k.options.Instance, k.options.Log)
	if err != nil {
		return err
	}
	if k.claim, err = claim(root); err != nil {
		return fmt.Errorf("instance %s: %w", k.options.Instance, err)
	}
	k.root = root
	spec, tag, err := prepare(&k.options)
	if err != nil {
		return err
	}
	if k.control, err = openControl(k.root, spec); err != nil {
		return err
	}
	k.objects, err = adopt(k.root, spec.Copy(), tag, k.control)
	if errors.Is(err, fs.ErrNotExist) {
		k.objects, err = k.install(spec, tag)
	}
	if err != nil {
		return err
	}
	k.convert = newConverter(k.options.Secret, k.objects)
	if k.events, err = ringbuf.NewReader(k.objects.maps[kernelMapEvents]); err != nil {
		return fmt.Errorf("read exec ring: %w", err)
	}
	k.losses = newLossLedger(k.objects, k.told())
	others, err := k.predecessors()
	if err != nil {
		return err
	}
	k.continued = k.objects.adopted || len(others) > 0
	if err := k.begin(); err != nil {
		return err
	}
	for _, o := range others {
		if err := k.succeed(o); err != nil {
			return err
		}
	}
	return k.scan(k.objects, k.convert)
}

func (k *Kernel) install(spec *ebpf.CollectionSpec, tag uint64) (*objects, error) {
	sweepProbes()
	a, err := machine(k.options.Lacks)
	if err != nil {
		return nil, err
	}
	o, err := install(k.root, spec, tag, k.control, a)
	if err != nil {
		return nil, err
	}
	for _, h := range o.hooks {
		if h.Way == "" {
			k.options.Log.Warn("not seen on this kernel", "what", h.Sees, "why", h.why())
		}
	}
	return o, nil
}

// Hooks tells what the kernel is asked for, and which way was found for it.
func (k *Kernel) Hooks() []Hook { return slices.Clone(k.objects.hooks) }

// MaxProcesses is how many process instances the kernel side keeps, ended ones that are not yet recorded among them.
func (k *Kernel) MaxProcesses() int { s := k.options.sizes(); return int(s.processes) }

// told is what was told of losses, if these are still the same counters.
func (k *Kernel) told() map[string]Loss {
	if k.objects.adopted && k.options.Position.BootID == k.bootID {
		return k.options.Position.Losses
	}
	return nil
}

// begin switches the programs on, and those of other versions off. A host of the same version that died left sums behind:
// those of the idle maps are given out as a window, unless the journal has them already.
func (k *Kernel) begin() error {
	var word kernelControl
	var zero uint32
	if err := k.control.Lookup(zero, &word); err != nil {
		return fmt.Errorf("read control word: %w", err)
	}
	journaled := k.journaled()
	moment := Now()
	s := k.options.sizes()
	word.FlowShare, word.ProcessShare = s.flows/share, s.processes/share
	word.Deadline = uint64(moment.Boot + int64(patience+k.options.Interval))
	if k.objects.adopted && word.Generation > journaled {
		if err := k.resume(&word, journaled); err != nil {
			return err
		}
	} else {
		word.Generation = max(word.Generation, journaled) + 1
		word.BeganBefore, word.Began = 0, uint64(moment.Boot)
	}
	word.Tag = k.objects.tag
	if err := k.control.Put(zero, &word); err != nil {
		return fmt.Errorf("switch programs on: %w", err)
	}
	k.generation, k.began = word.Generation, int64(word.Began)
	k.drained = time.Now()
	k.due = k.drained.Add(k.options.Interval)
	if k.objects.adopted {
		k.due = k.drained
	} else if err := k.iterate(kernelProgExistingFiles); err != nil {
		return err
	}
	if err := k.iterate(kernelProgOpenFiles); err != nil {
		return err
	}
	return k.iterate(kernelProgExistingTasks)
}

// journaled is the last generation of this boot that the journal has.
func (k *Kernel) journaled() uint64 {
	if k.options.Position.BootID != k.bootID {
		return 0
	}
	return k.options.Position.Generation
}

// resume finds what the host before left in the idle maps.
func (k *Kernel) resume(word *kernelControl, journaled uint64) error {
	if err := k.objects.barrier(); err != nil {
		return err
	}
	return k.inherit(k.objects, word.Generation-1, journaled, int64(word.BeganBefore), int64(word.Began))
}

// iterate runs an iterator program over everything there is.
func (k *Kernel) iterate(name string) error {
	_, err := runIterator(k.objects.programs[name])
	return err
}

// Next implements [Source].
func (k *Kernel) Next(ctx context.Context) (Event, error) {
	stop := context.AfterFunc(ctx, func() { k.wake() })
	defer stop()
	for {
		if len(k.queue) > 0 {
			e := k.queue[0]
			k.queue = k.queue[1:]
			return e, nil
		}
		k.queue = nil
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left, drain, wait, done := k.plan()
		switch {
		case left != nil:
			k.queue = append(k.queue, left)
		case done:
			if err := k.remove(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		case drain:
			if err := k.drain(); err != nil {
				return nil, err
			}
		default:
			if err := k.readEvent(wait); err != nil {
				return nil, err
			}
		}
	}
}

// plan tells which window to give out, or whether to drain now, else until when to wait for events, or that all is done.
func (k *Kernel) plan() (left *Window, drain bool, wait time.Time, done bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.held != nil:
		return nil, false, time.Time{}, false
	case len(k.left) > 0:
		k.held, k.left = &k.left[0], k.left[1:]
		return k.held.window, false, time.Time{}, false
	case k.finished:
		return nil, false, time.Time{}, true
	case k.closing || !time.Now().Before(k.due) || k.crowded():
		return nil, true, time.Time{}, false
	}
	return nil, false, k.due, false
}

// readEvent waits for one hint from the ring and queues what it means.
func (k *Kernel) readEvent(until time.Time) error {
	k.events.SetDeadline(until)
	err := k.events.ReadInto(&k.record)
	switch {
	case err == nil:
		return k.handle(k.record.RawSample)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed):
		return nil
	case errors.Is(err, ringbuf.ErrClosed):
		return io.EOF
	}
	return fmt.Errorf("read exec ring: %w", err)
}

// wake makes a waiting Next look again.
func (k *Kernel) wake() { _ = k.events.Flush() }

// Release implements [Source].
func (k *Kernel) Release(generation uint64) error {
	k.mu.Lock()
	held := k.held
	k.mu.Unlock()
	if held == nil || held.window.Generation != generation {
		return fmt.Errorf("release window: generation %d is not out", generation)
	}
	if err := held.release(); err != nil {
		return err
	}
	k.mu.Lock()
	k.held = nil
	k.mu.Unlock()
	k.wake()
	return nil
}

// Close implements [Source]. The programs stop counting at once and are gone when Next has returned io.EOF.
func (k *Kernel) Close() error {
	k.mu.Lock()
	k.closing = true
	k.mu.Unlock()
	k.wake()
	return nil
}

// Adopted tells whether a host of this version had left the programs that are at work now.
func (k *Kernel) Adopted() bool { return k.objects.adopted }

// Continued tells whether a host before this one, of this version or of one whose sums can be read, had left programs
// counting: then nothing was missed in between, unless [Off] says so.
func (k *Kernel) Continued() bool { return k.continued }

// Abandon lets go of the kernel side and leaves it counting, for a host that is to be started again at once.
func (k *Kernel) Abandon() { k.release() }

func (k *Kernel) release() {
	if k.events != nil {
		k.events.Close()
	}
	if k.objects != nil {
		k.objects.close()
	}
	if k.control != nil {
		k.control.Close()
	}
	if k.claim != nil {
		_ = k.claim.Close()
	}
}

// remove takes programs and maps out of the kernel.
func (k *Kernel) remove() error {
	for name, l := range k.objects.links {
		if err := l.Unpin(); err != nil {
			k.options.Log.Warn("unpin", "link", name, "error", err)
		}
	}
	err := removePins(k.root)
	k.release()
	sweepProbes()
	return err
}
