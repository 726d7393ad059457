package peers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// maxAllowed bounds the addresses of one plugin.
const maxAllowed = 1024

// Filter is the programs on one control group.
type Filter struct {
	allowed *ebpf.Map
	links   []link.Link // held: a link detaches when it is collected
	now     map[key]bool
}

// Attach puts the programs on the control group (v2) at path, an empty one. Until Allow nobody can be talked to. The
// caller closes the Filter, after the last process of the group.
func Attach(path string) (*Filter, error) {
	allowed, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "peers", Type: ebpf.Hash, KeySize: uint32(len(key{})), ValueSize: 1, MaxEntries: maxAllowed,
	})
	if err != nil {
		return nil, fmt.Errorf("make map of peers: %w", err)
	}
	f := &Filter{allowed: allowed, now: map[key]bool{}}
	for _, h := range hooks(allowed) {
		if err := f.attach(path, h); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func (f *Filter) attach(path string, h hook) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "peers", Type: h.kind, AttachType: h.attach, Instructions: h.code, License: "Dual BSD/GPL",
	})
	if err != nil {
		return fmt.Errorf("load %s: %w", h.attach, err)
	}
	defer func() { _ = program.Close() }() // the link holds it
	l, err := link.AttachCgroup(link.CgroupOptions{Path: path, Attach: h.attach, Program: program})
	if err != nil {
		return fmt.Errorf("attach %s: %w", h.attach, err)
	}
	f.links = append(f.links, l)
	return nil
}

// Allow makes exactly these addresses the ones that can be talked to. Connections that stand are not cut.
func (f *Filter) Allow(addresses []netip.AddrPort) error {
	if len(addresses) > maxAllowed {
		return fmt.Errorf("allow %d peers: at most %d", len(addresses), maxAllowed)
	}
	next := map[key]bool{}
	for _, a := range addresses {
		next[encode(a)] = true
	}
	for k := range f.now {
		if next[k] {
			continue
		}
		if err := f.allowed.Delete(k); err != nil {
			return fmt.Errorf("no longer allow a peer: %w", err)
		}
		delete(f.now, k)
	}
	for k := range next {
		if err := f.allowed.Put(k, byte(1)); err != nil {
			return fmt.Errorf("allow a peer: %w", err)
		}
		f.now[k] = true
	}
	return nil
}

func encode(a netip.AddrPort) (k key) {
	ip := a.Addr().As16()
	copy(k[:], ip[:])
	binary.BigEndian.PutUint16(k[16:], a.Port())
	return k
}

// Close takes the programs off.
func (f *Filter) Close() error {
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, f.allowed.Close())...)
}
