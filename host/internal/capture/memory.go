package capture

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cilium/ebpf"
)

// hashOverhead is what the kernel keeps beside key and value of a hash element: its links, hash and bucket, rounded up
// (struct htab_elem and struct bucket, kernel/bpf/hashtab.c).
const hashOverhead = 64

// MapMemory estimates how many bytes of kernel memory the maps of a configuration take when full. It asks the kernel for
// the number of its CPUs only, and needs no privileges.
func MapMemory(ringPages int) (uint64, error) {
	spec, _, err := prepare(&Options{
		Instance: "estimate", Interval: time.Second, RingPages: ringPages, Secret: make([]byte, 16), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, fmt.Errorf("count CPUs: %w", err)
	}
	var sum uint64
	for _, name := range append(mapNames(), kernelMapControlWord) {
		if m := spec.Maps[name]; m != nil {
			sum += mapBytes(m, uint64(cpus))
		}
	}
	return sum, nil
}

// mapBytes estimates one map. What is kept with sockets has no limit of its own and is left out.
func mapBytes(m *ebpf.MapSpec, cpus uint64) uint64 {
	key, value, entries := padded(m.KeySize), padded(m.ValueSize), uint64(m.MaxEntries)
	switch m.Type {
	case ebpf.RingBuf:
		return entries
	case ebpf.Array:
		return value * entries
	case ebpf.PerCPUArray:
		return value * entries * cpus
	case ebpf.PerCPUHash, ebpf.LRUCPUHash:
		return (key + value*cpus + hashOverhead) * entries
	case ebpf.SkStorage, ebpf.TaskStorage, ebpf.ArrayOfMaps:
		return 0
	}
	return (key + value + hashOverhead) * entries
}

// padded is a size in the kernel's multiples of 8.
func padded(size uint32) uint64 { return (uint64(size) + 7) &^ 7 }
