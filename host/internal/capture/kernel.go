package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	root    string // pin directory of the instance
	bootID  string
	convert *converter
	events  *ringbuf.Reader
	record  ringbuf.Record
	losses  *lossLedger

	queue []Event // seen, not yet given out by Next; only Next touches it

	mu         sync.Mutex
	closing    bool
	generation uint64 // counted into now
	began      int64  // boot ns
	held       uint64 // generation whose window is out and not released; 0: none
	idle       int    // index of the map pair that held fills
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
		return nil, fmt.Errorf("open capture: %w", err)
	}
	return k, nil
}

func (k *Kernel) open() error {
	var err error
	if k.bootID, err = BootID(); err != nil {
		return err
	}
	if k.root, err = pinDir(k.options.Instance, k.options.Log); err != nil {
		return err
	}
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
	left, err := k.begin()
	if err != nil {
		return err
	}
	if err := k.removeOthers(); err != nil {
		return err
	}
	if err := k.scan(); err != nil {
		return err
	}
	if left != nil {
		k.queue = append(k.queue, left)
	}
	return nil
}

func (k *Kernel) install(spec *ebpf.CollectionSpec, tag uint64) (*objects, error) {
	a, err := machine()
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

// told is what was told of losses, if these are still the same counters.
func (k *Kernel) told() map[string]Loss {
	if k.objects.adopted && k.options.Position.BootID == k.bootID {
		return k.options.Position.Losses
	}
	return nil
}

// begin switches the programs on. A host of the same version that died left sums behind: those of the idle maps are
// returned as a window, unless the journal has them already.
func (k *Kernel) begin() (*Window, error) {
	var left *Window
	var word kernelControl
	var zero uint32
	if err := k.control.Lookup(zero, &word); err != nil {
		return nil, fmt.Errorf("read control word: %w", err)
	}
	journaled := uint64(0)
	if k.options.Position.BootID == k.bootID {
		journaled = k.options.Position.Generation
	}
	moment := Now()
	s := k.options.sizes()
	word.FlowShare, word.ProcessShare = s.flows/share, s.processes/share
	word.Deadline = uint64(moment.Boot + int64(patience+k.options.Interval))
	if k.objects.adopted && word.Generation > journaled {
		var err error
		if left, err = k.resume(&word, journaled); err != nil {
			return nil, err
		}
	} else {
		word.Generation = max(word.Generation, journaled) + 1
		word.BeganBefore, word.Began = 0, uint64(moment.Boot)
	}
	word.Tag = k.objects.tag
	if err := k.control.Put(zero, &word); err != nil {
		return nil, fmt.Errorf("switch programs on: %w", err)
	}
	k.generation, k.began = word.Generation, int64(word.Began)
	k.due = time.Now().Add(k.options.Interval)
	if k.objects.adopted {
		k.due = time.Now()
	} else if err := k.iterate(kernelProgExistingFiles); err != nil {
		return nil, err
	}
	return left, k.iterate(kernelProgExistingTasks)
}

// resume finds what the host before left in the idle maps; nil if that is nothing.
func (k *Kernel) resume(word *kernelControl, journaled uint64) (*Window, error) {
	idle := int(word.Generation-1) & 1
	if word.Generation-1 <= journaled {
		return nil, k.objects.clear(idle)
	}
	if err := k.objects.barrier(); err != nil {
		return nil, err
	}
	w, err := k.window(idle, word.Generation-1, int64(word.BeganBefore), int64(word.Began))
	if err != nil {
		return nil, err
	}
	if len(w.Flows) == 0 {
		return nil, k.objects.clear(idle)
	}
	k.held, k.idle = w.Generation, idle
	return w, nil
}

// iterate runs an iterator program over everything there is.
func (k *Kernel) iterate(name string) error {
	_, err := runIterator(k.objects.programs[name])
	return err
}

// removeOthers removes what other versions left in the instance's directory: their programs are switched off already.
func (k *Kernel) removeOthers() error {
	entries, err := os.ReadDir(k.root)
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(k.root, entry.Name())
		if !entry.IsDir() || path == k.objects.dir {
			continue
		}
		k.options.Log.Warn("removing the probes of another version", "pins", path)
		if err := removePins(path); err != nil {
			return err
		}
	}
	return nil
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
		drain, wait, done := k.plan()
		switch {
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

// plan tells whether to drain now, else until when to wait for events, or that all is done.
func (k *Kernel) plan() (drain bool, wait time.Time, done bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held != 0 {
		return false, time.Time{}, false
	}
	if k.finished {
		return false, time.Time{}, true
	}
	if k.closing || !time.Now().Before(k.due) {
		return true, time.Time{}, false
	}
	return false, k.due, false
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
	held, idle := k.held, k.idle
	k.mu.Unlock()
	if held != generation {
		return fmt.Errorf("release window: generation %d is not out, %d is", generation, held)
	}
	if err := k.objects.clear(idle); err != nil {
		return err
	}
	k.mu.Lock()
	k.held = 0
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

// Adopted tells whether a host before this one had left the programs counting: then nothing was missed in between.
func (k *Kernel) Adopted() bool { return k.objects.adopted }

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
	return err
}
