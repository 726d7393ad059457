package capture

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// mapNames are pinned with the programs of a version; control_word is pinned beside the versions. What is missing here only
// its programs know.
func mapNames() []string {
	return []string{
		kernelMapCalls, kernelMapDesks, kernelMapEvents, kernelMapFlowMaps, kernelMapFlows0, kernelMapFlows1, kernelMapLongTexts, kernelMapLosses,
		kernelMapAbouts, kernelMapQuestions, kernelMapOwnerMaps, kernelMapOwners0, kernelMapOwners1, kernelMapProcesses, kernelMapScratches,
		kernelMapSockets, kernelMapThreads, kernelMapUsersMade, kernelMapUsersRemoved,
	}
}

// objects is one version's maps and links, and the iterators that work on them.
type objects struct {
	tag      uint64
	dir      string
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program // iterators; attached programs too when this host loaded them
	links    map[string]link.Link
	own      []link.Link // of this host alone, not pinned
	hooks    []Hook
	adopted  bool // the maps and links were left by a host of the same version
}

// prepare sets sizes and constants in the object file's specification and gives its tag.
func prepare(o *Options) (*ebpf.CollectionSpec, uint64, error) {
	spec, err := loadKernel()
	if err != nil {
		return nil, 0, fmt.Errorf("read BPF object: %w", err)
	}
	s := o.sizes()
	for name, entries := range map[string]uint32{
		kernelMapEvents: s.ring, kernelMapFlows0: s.flows, kernelMapFlows1: s.flows,
		kernelMapOwners0: s.owners, kernelMapOwners1: s.owners,
		kernelMapProcesses: s.processes, kernelMapLongTexts: max(s.processes/share/4, 1),
	} {
		spec.Maps[name].MaxEntries = entries
	}
	spec.Maps[kernelMapFlowMaps].InnerMap.MaxEntries = s.flows
	spec.Maps[kernelMapOwnerMaps].InnerMap.MaxEntries = s.owners
	delete(spec.Programs, kernelProgNothing)

	sum := sha256.Sum256(fmt.Appendf(nil, "%x %v %s %q", sha256.Sum256(_KernelBytes), s, o.Instance, o.Lacks))
	tag := binary.LittleEndian.Uint64(sum[:]) | 1 // never 0, which switches off
	if err := spec.Variables[kernelVarOwnTag].Set(tag); err != nil {
		return nil, 0, fmt.Errorf("set tag: %w", err)
	}
	if err := spec.Variables[kernelVarHostTgid].Set(uint32(os.Getpid())); err != nil {
		return nil, 0, fmt.Errorf("set host pid: %w", err)
	}
	return spec, tag, nil
}

// layout is LAYOUT of event.h: maps of another one cannot be read.
const layout = 5

// versionDir is where the pins of a version lie.
func versionDir(root string, tag uint64) string {
	return filepath.Join(root, fmt.Sprintf("layout%d-%016x", layout, tag))
}

// openControl gives the control word of the instance, which outlives versions.
func openControl(root string, spec *ebpf.CollectionSpec) (*ebpf.Map, error) {
	path := filepath.Join(root, "control")
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		return m, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open control word: %w", err)
	}
	if m, err = ebpf.NewMap(spec.Maps[kernelMapControlWord]); err != nil {
		return nil, fmt.Errorf("make control word: %w", err)
	}
	if err := m.Pin(path); err != nil {
		m.Close()
		return nil, fmt.Errorf("pin control word: %w", err)
	}
	return m, nil
}

// adopt opens what a host of the same version left pinned; fs.ErrNotExist if there is nothing.
func adopt(root string, spec *ebpf.CollectionSpec, tag uint64, control *ebpf.Map) (*objects, error) {
	o := &objects{
		tag: tag, dir: versionDir(root, tag), adopted: true,
		maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, links: map[string]link.Link{},
	}
	if _, err := os.Lstat(o.dir); err != nil {
		return nil, err
	}
	err := errors.Join(o.openMaps(), o.openLinks())
	if err != nil {
		o.close()
		return nil, err
	}
	o.remember()
	// Only the iterators are loaded again: everything else is at work already.
	if o.maps[kernelMapControlWord], err = control.Clone(); err == nil {
		err = o.loadPrograms(spec, unpinned())
	}
	if err != nil {
		o.close()
		return nil, err
	}
	o.hooks = append(o.hooks, o.probeLibraries())
	return o, nil
}

// openMaps opens the maps that are pinned in the version's directory.
func (o *objects) openMaps() error {
	for _, name := range mapNames() {
		m, err := ebpf.LoadPinnedMap(filepath.Join(o.dir, name), nil)
		if err != nil {
			return fmt.Errorf("open pinned map %s: %w", name, err)
		}
		o.maps[name] = m
	}
	return nil
}

// openLinks opens the links that are pinned there.
func (o *objects) openLinks() error {
	entries, err := os.ReadDir(filepath.Join(o.dir, "links"))
	if err != nil {
		return fmt.Errorf("list pinned links: %w", err)
	}
	for _, entry := range entries {
		l, err := link.LoadPinnedLink(filepath.Join(o.dir, "links", entry.Name()), nil)
		if err != nil {
			return fmt.Errorf("open pinned link %s: %w", entry.Name(), err)
		}
		o.links[entry.Name()] = l
	}
	return nil
}

// unpinned are the programs that every host loads for itself: iterators, and the probes of C libraries.
func unpinned() []string {
	return []string{kernelProgExistingTasks, kernelProgExistingFiles, kernelProgFileKeys, kernelProgOpenFiles, kernelProgAsk, kernelProgTold}
}

// makeMaps makes the maps of a version, around the control word that all versions share.
func (o *objects) makeMaps(spec *ebpf.CollectionSpec, control *ebpf.Map) error {
	maps := spec.Copy()
	clear(maps.Programs)
	coll, err := ebpf.NewCollectionWithOptions(maps, ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{kernelMapControlWord: control},
	})
	if err != nil {
		return fmt.Errorf("make BPF maps: %w", err)
	}
	for name, m := range coll.Maps {
		o.maps[name] = m
	}
	return nil
}

// loadPrograms loads some of the specification's programs around the maps that there are.
func (o *objects) loadPrograms(spec *ebpf.CollectionSpec, names []string) error {
	some := spec.Copy()
	for name := range some.Programs {
		if !slices.Contains(names, name) {
			delete(some.Programs, name)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(some, ebpf.CollectionOptions{MapReplacements: o.replacements(some)})
	if err != nil {
		return fmt.Errorf("load BPF programs: %w", err)
	}
	for name, p := range coll.Programs {
		o.programs[name] = p
	}
	for _, m := range coll.Maps {
		m.Close() // clones of ours
	}
	return nil
}

// replacements are the maps that a specification names; constants of the object stand in maps of their own.
func (o *objects) replacements(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	found := map[string]*ebpf.Map{}
	for name, m := range o.maps {
		if spec.Maps[name] != nil {
			found[name] = m
		}
	}
	return found
}

// install loads this version, attaches it and pins it. The programs do nothing before the control word names the tag.
func install(root string, spec *ebpf.CollectionSpec, tag uint64, control *ebpf.Map, a attachments) (*objects, error) {
	o := &objects{
		tag: tag, dir: versionDir(root, tag),
		maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, links: map[string]link.Link{},
	}
	err := o.makeMaps(spec, control)
	if err == nil {
		err = o.choose(spec, a)
	}
	if err == nil {
		err = o.pin()
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// pin makes everything outlive the host. The directory gets its name last: one with a name is complete.
func (o *objects) pin() error {
	staging := o.dir + "-new"
	if err := removePins(staging); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(staging, "links"), 0o700); err != nil {
		return fmt.Errorf("make pin directory: %w", err)
	}
	for _, name := range mapNames() {
		if err := o.maps[name].Pin(filepath.Join(staging, name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for name, l := range o.links {
		if err := l.Pin(filepath.Join(staging, "links", name)); err != nil {
			return fmt.Errorf("pin link %s: %w", name, err)
		}
	}
	if err := os.Rename(staging, o.dir); err != nil {
		return fmt.Errorf("name pin directory: %w", err)
	}
	return nil
}

// close lets go of everything without detaching what is pinned.
func (o *objects) close() {
	for _, l := range o.own {
		l.Close()
	}
	for _, l := range o.links {
		l.Close()
	}
	for _, p := range o.programs {
		p.Close()
	}
	for _, m := range o.maps {
		m.Close()
	}
}
