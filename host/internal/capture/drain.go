package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// chunk is how many map entries one system call moves.
const chunk = 512

func (o *objects) flows(i int) *ebpf.Map {
	return o.maps[[]string{kernelMapFlows0, kernelMapFlows1}[i]]
}

func (o *objects) owners(i int) *ebpf.Map {
	return o.maps[[]string{kernelMapOwners0, kernelMapOwners1}[i]]
}

// barrier returns when no program is at work any more that began before the call: the kernel waits an RCU grace period
// after every update of a map of maps. The update itself changes nothing.
func (o *objects) barrier() error {
	if err := o.maps[kernelMapFlowMaps].Put(uint32(0), o.flows(0)); err != nil {
		return fmt.Errorf("wait for programs: %w", err)
	}
	return nil
}

// clear empties a pair of idle maps.
func (o *objects) clear(i int) error {
	if err := clearMap[kernelFlowKey, kernelFlow](o.flows(i)); err != nil {
		return err
	}
	return clearMap[kernelProcessKey, kernelOwner](o.owners(i))
}

func clearMap[K comparable, V any](m *ebpf.Map) error {
	cursor := new(ebpf.MapBatchCursor)
	for {
		keys, _, err := readChunk[K, V](m, cursor)
		if len(keys) > 0 {
			if _, err := m.BatchDelete(keys, nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("empty map %s: %w", m, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readMap calls visit for every entry of a map that nobody writes to.
func readMap[K comparable, V any](m *ebpf.Map, visit func(*K, *V)) error {
	cursor := new(ebpf.MapBatchCursor)
	for {
		keys, values, err := readChunk[K, V](m, cursor)
		for i := range keys {
			visit(&keys[i], &values[i])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readChunk reads up to chunk entries; io.EOF comes with the last ones.
func readChunk[K comparable, V any](m *ebpf.Map, cursor *ebpf.MapBatchCursor) ([]K, []V, error) {
	keys, values := make([]K, chunk), make([]V, chunk)
	n, err := m.BatchLookup(cursor, keys, values, nil)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = io.EOF
	} else if err != nil {
		err = fmt.Errorf("read map %s: %w", m, err)
	}
	return keys[:n], values[:n], err
}

// runIterator runs an iterator program to its end and returns what it wrote.
func runIterator(p *ebpf.Program) ([]byte, error) {
	l, err := link.AttachIter(link.IterOptions{Program: p})
	if err != nil {
		return nil, fmt.Errorf("attach iterator %s: %w", p, err)
	}
	defer l.Close()
	r, err := l.Open()
	if err != nil {
		return nil, fmt.Errorf("open iterator %s: %w", p, err)
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("run iterator %s: %w", p, err)
	}
	return out, nil
}

// drain switches generations, queues the processes that were seen until then and after them the window.
func (k *Kernel) drain() error {
	k.mu.Lock()
	closing := k.closing
	k.mu.Unlock()

	moment := Now()
	ended, began := k.generation, k.began
	if err := k.switchTo(ended+1, moment.Boot, closing); err != nil {
		return err
	}
	if err := k.objects.barrier(); err != nil {
		return err
	}
	if err := k.readPending(); err != nil {
		return err
	}
	w, err := k.window(k.objects, k.convert, ended, began, moment.Boot)
	if err != nil {
		return err
	}
	k.queue = append(k.queue, w)

	k.mu.Lock()
	defer k.mu.Unlock()
	k.generation, k.began = ended+1, moment.Boot
	k.held = &leftover{window: w, release: func() error { return k.objects.clear(int(ended & 1)) }}
	k.ended, k.drained = 0, time.Now()
	k.due = nextDue(k.due, k.drained, k.options.Interval)
	if closing {
		k.finished = true
		return nil
	}
	return nil
}

// crowded tells that a window is to end before it is due: processes that have ended keep their place in the kernel's map
// until their window is recorded, and no user has more than a share of it. It holds those of two windows, and what comes
// while the last one is recorded.
func (k *Kernel) crowded() bool {
	s := k.options.sizes()
	return k.ended >= int(s.processes/share/4) && time.Since(k.drained) >= leastWindow
}

// leastWindow keeps whoever starts processes without end from making windows without end.
const leastWindow = time.Second

// nextDue is when the window that begins now is to end. One that ended early changes nothing for the next.
func nextDue(due, now time.Time, interval time.Duration) time.Time {
	if now.Before(due) {
		return due
	}
	if due = due.Add(interval); due.Before(now) {
		return now.Add(interval)
	}
	return due
}

// switchTo writes the control word: the next generation, or (when closing) none.
func (k *Kernel) switchTo(generation uint64, boot int64, closing bool) error {
	var word kernelControl
	var zero uint32
	if err := k.control.Lookup(zero, &word); err != nil {
		return fmt.Errorf("read control word: %w", err)
	}
	word.Tag = k.objects.tag
	if closing {
		word.Tag = 0
	}
	word.BeganBefore, word.Began = word.Began, uint64(boot)
	word.Generation = generation
	word.Deadline = uint64(boot + int64(patience+k.options.Interval))
	if err := k.control.Put(zero, &word); err != nil {
		return fmt.Errorf("switch generation: %w", err)
	}
	return nil
}

// readPending queues everything that the ring holds now; if hints were lost, everything that the process map holds.
func (k *Kernel) readPending() error {
	k.events.SetDeadline(time.Unix(0, 1))
	for {
		err := k.events.ReadInto(&k.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if errors.Is(err, ringbuf.ErrFlushed) {
			continue // somebody called wake
		}
		if err != nil {
			return fmt.Errorf("read exec ring: %w", err)
		}
		if err := k.handle(k.record.RawSample); err != nil {
			return err
		}
	}
	missed, err := k.losses.missedEvents()
	if err != nil || !missed {
		return err
	}
	return k.scan(k.objects, k.convert)
}

// window reads the pair of maps of a generation, which nobody writes to.
func (k *Kernel) window(o *objects, c *converter, generation uint64, began, ended int64) (*Window, error) {
	pair := int(generation & 1)
	reference := Now()
	w := &Window{Generation: generation, Start: at(began, reference), End: at(ended, reference)}
	var err error
	if w.Flows, err = c.flows(o.flows(pair), o.owners(pair)); err != nil {
		return nil, err
	}
	if w.Losses, err = k.losses.since(); err != nil {
		return nil, err
	}
	w.Losses, k.owed = append(w.Losses, k.owed...), nil
	w.Position = Position{BootID: k.bootID, Generation: generation, Losses: k.losses.totals()}
	return w, nil
}
