package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
)

// Reattach detaches and attaches the programs of every hook again and replaces their pins: the cure for probes that the
// kernel shows as attached and does not run. A hook that has no way, because an earlier Reattach or a host that died took
// it, gets one if there is one; Hooks tells. Each hook is down for some milliseconds; the caller tells the gap. The error names the
// hooks that had a way, or are essential, and are down now; the others are at work.
//
// It belongs to the goroutine that calls Next, between two calls; Hooks and Close are not called meanwhile.
func (k *Kernel) Reattach() error {
	spec, _, err := prepare(&k.options)
	if err != nil {
		return fmt.Errorf("attach probes again: %w", err)
	}
	a, err := machine(k.options.Lacks)
	if err != nil {
		return fmt.Errorf("attach probes again: %w", err)
	}
	var errs []error
	for i, h := range hooks() {
		state := &k.objects.hooks[i]
		had := state.Way != ""
		if err := k.objects.renew(spec, a, h, state); err != nil && (had || h.essential) {
			errs = append(errs, fmt.Errorf("%s: %w", h.sees, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("attach probes again: %w", err)
	}
	return nil
}

// AttachMissing looks again for a way of every hook that has none: a host that was killed inside Reattach left one short.
// Hooks tells what came of it. It may be called where Reattach may.
func (k *Kernel) AttachMissing() error {
	spec, _, err := prepare(&k.options)
	if err != nil {
		return fmt.Errorf("attach missing probes: %w", err)
	}
	a, err := machine(k.options.Lacks)
	if err != nil {
		return fmt.Errorf("attach missing probes: %w", err)
	}
	for i, h := range hooks() {
		if state := &k.objects.hooks[i]; state.Way == "" {
			_ = k.objects.tryAgain(spec, a, h, state) // in state
		}
	}
	return nil
}

// renew makes new links for one hook.
func (o *objects) renew(spec *ebpf.CollectionSpec, a attachments, h hook, state *Hook) error {
	if state.Way == "" {
		return o.tryAgain(spec, a, h, state)
	}
	for _, name := range state.Programs {
		err := o.relink(a, name, spec.Programs[name])
		if err == nil {
			continue
		}
		for _, name := range state.Programs { // half a way is none: the next attempt begins anew, with any
			o.drop(name)
		}
		state.Failures = []Failure{{Way: state.Way, Err: err}}
		state.Way, state.Programs = "", nil
		return err
	}
	return nil
}

// tryAgain looks for a way of a hook that has none.
func (o *objects) tryAgain(spec *ebpf.CollectionSpec, a attachments, h hook, state *Hook) error {
	state.Failures = nil
	for _, w := range h.ways {
		err := o.try(spec, a, w, state)
		if err == nil {
			return o.pinLinks(state.Programs)
		}
		state.Failures = append(state.Failures, Failure{Way: w.name, Err: err})
	}
	return state.why()
}

// relink replaces one link and its pin by new ones of the same program: its counters go on.
func (o *objects) relink(a attachments, name string, spec *ebpf.ProgramSpec) error {
	if err := o.keepProgram(name); err != nil {
		return err
	}
	o.drop(name)
	l, err := a.attach(o.programs[name], spec)
	if err != nil {
		return fmt.Errorf("attach %s: %w", spec.SectionName, err)
	}
	o.links[name] = l
	return o.pinLinks([]string{name})
}

// keepProgram holds the program of a link that another host made, which would go with the link.
func (o *objects) keepProgram(name string) error {
	if o.programs[name] != nil {
		return nil
	}
	info, err := o.links[name].Info()
	if err != nil {
		return fmt.Errorf("look at link %s: %w", name, err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return fmt.Errorf("open program of link %s: %w", name, err)
	}
	o.programs[name] = p
	return nil
}

// drop detaches a link: the last reference to it goes with its pin. One that is gone already is no error.
func (o *objects) drop(name string) {
	_ = os.Remove(o.linkPath(name)) // what is in the way of the new pin is told by pinLinks
	if l := o.links[name]; l != nil {
		l.Close()
		delete(o.links, name)
	}
}

func (o *objects) pinLinks(names []string) error {
	for _, name := range names {
		if err := o.links[name].Pin(o.linkPath(name)); err != nil {
			return fmt.Errorf("pin link %s: %w", name, err)
		}
	}
	return nil
}

// linkPath is where a link is pinned since pin gave the directory its name.
func (o *objects) linkPath(name string) string { return filepath.Join(o.dir, "links", name) }

// expiredCause is the loss that tells of programs that switched themselves off.
func expiredCause() string { return causes()[kernelLossCauseLOSS_EXPIRED].Cause }

// Expired takes the loss that tells of probes that switched themselves off out of a window and says since when they
// counted nothing: until the window's end. It happens to a host that could not drain for minutes. After Open has taken
// over probes that another host left, [Off] knows better: the window's own times have nothing to do with it.
func (k *Kernel) Expired(w *Window) (since Moment, ok bool) {
	before := len(w.Losses)
	w.Losses = slices.DeleteFunc(w.Losses, func(l Loss) bool { return l.Cause == expiredCause() })
	if len(w.Losses) == before {
		return Moment{}, false
	}
	boot := w.Start.Boot + int64(patience+k.options.Interval)
	return at(min(boot, w.End.Boot), w.End), true
}

// Off tells, before Open, whether the probes that an instance's host left have switched themselves off, and since when
// they may have missed something. An instance that left nothing is not off.
func Off(instance string) (since Moment, off bool, err error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(bpffs, "picosnitch-"+instance, "control"), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return Moment{}, false, nil
	}
	if err != nil {
		return Moment{}, false, fmt.Errorf("look at probes left behind: %w", err)
	}
	defer m.Close()
	var word kernelControl
	if err := m.Lookup(uint32(0), &word); err != nil {
		return Moment{}, false, fmt.Errorf("look at probes left behind: %w", err)
	}
	if word.Tag != 0 || word.Generation == 0 {
		return Moment{}, false, nil
	}
	now := Now()
	boot := int64(word.Deadline)
	if boot > now.Boot { // not expired: a host was killed while it stopped
		boot = int64(word.Began)
	}
	return at(boot, now), true, nil
}

// Rescan looks at what is open again: for a host that took over probes which had been off, while sockets came and went.
func (k *Kernel) Rescan() error { return k.iterate(kernelProgExistingFiles) }

// Links names the programs that are attached, sorted.
func (k *Kernel) Links() []string { return slices.Sorted(maps.Keys(k.objects.links)) }
