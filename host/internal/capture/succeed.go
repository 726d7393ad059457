package capture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// leftover is a window and what is to be done once it is journaled.
type leftover struct {
	window  *Window
	release func() error
}

// predecessor is another version whose pins were found.
type predecessor struct {
	*objects
	generation uint64 // that it counted into last
	began      int64  // boot ns
	before     int64  // boot ns, of the generation before
}

// predecessors opens what other versions left pinned. What cannot be read, because its layout is another one, is removed
// and told.
func (k *Kernel) predecessors() ([]predecessor, error) {
	entries, err := os.ReadDir(k.root)
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var word kernelControl
	var zero uint32
	if err := k.control.Lookup(zero, &word); err != nil {
		return nil, fmt.Errorf("read control word: %w", err)
	}
	var found []predecessor
	for _, entry := range entries {
		dir := filepath.Join(k.root, entry.Name())
		if !entry.IsDir() || dir == k.objects.dir {
			continue
		}
		o := &objects{dir: dir, maps: map[string]*ebpf.Map{}, links: map[string]link.Link{}}
		readable := strings.HasPrefix(entry.Name(), fmt.Sprintf("layout%d-", layout)) && errors.Join(o.openMaps(), o.openLinks()) == nil
		k.options.Log.Warn("replacing the probes of another version", "pins", dir, "readable", readable)
		if !readable {
			o.close()
			if err := removePins(dir); err != nil {
				return nil, err
			}
			continue
		}
		found = append(found, predecessor{o, word.Generation, int64(word.Began), int64(word.BeganBefore)})
	}
	return found, nil
}

// succeed gives out what another version has counted. Its programs have been switched off by then; its pins go with the
// last of its windows.
func (k *Kernel) succeed(p predecessor) error {
	if err := p.barrier(); err != nil {
		return err
	}
	if err := k.mourn(p); err != nil {
		return err
	}
	if err := k.scan(p.objects, newConverter(k.options.Secret, p.objects)); err != nil {
		return err
	}
	journaled := k.journaled()
	if err := k.inherit(p.objects, p.generation-1, journaled, p.before, p.began); err != nil {
		return err
	}
	if err := k.inherit(p.objects, p.generation, journaled, p.began, Now().Boot); err != nil {
		return err
	}
	remove := func() error {
		p.close()
		return removePins(p.dir)
	}
	if len(k.left) == 0 {
		return remove()
	}
	last := &k.left[len(k.left)-1]
	release := last.release
	last.release = func() error {
		if err := release(); err != nil {
			return err
		}
		return remove()
	}
	return nil
}

// mourn has the next window tell of the calls under way whose ends nobody sees: they began before the programs of another
// version, and where fexit counts the kernel leaves out what is attached later.
func (k *Kernel) mourn(p predecessor) error {
	missed := causes()[kernelLossCauseLOSS_CALL]
	err := readMap(p.maps[kernelMapCalls], func(*uint64, *kernelCall) { missed.Events++ })
	if err == nil && missed.Events > 0 {
		k.owed = append(k.owed, missed)
	}
	return err
}

// inherit adds what a pair of maps holds to the windows to be given out, unless the journal has it.
func (k *Kernel) inherit(o *objects, generation, journaled uint64, began, ended int64) error {
	pair := int(generation & 1)
	if generation <= journaled {
		return o.clear(pair)
	}
	w, err := k.window(o, newConverter(k.options.Secret, o), generation, began, ended)
	if err != nil {
		return err
	}
	if len(w.Flows) == 0 && len(w.Losses) == 0 {
		return o.clear(pair)
	}
	k.left = append(k.left, leftover{window: w, release: func() error { return o.clear(pair) }})
	return nil
}
