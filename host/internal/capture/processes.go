package capture

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// handle queues what a hint from the ring means. The facts are in the process map; a process that is not there was not
// stored (counted as a loss) or has been forgotten already.
func (k *Kernel) handle(sample []byte) error {
	var e kernelEvent
	if _, err := binary.Decode(sample, binary.NativeEndian, &e); err != nil {
		return fmt.Errorf("decode exec ring: %w", err)
	}
	key := keyOf(e.Process)
	switch kernelEventKind(e.Kind) {
	case kernelEventKindEVENT_PAYLOAD:
		return k.handlePayload(sample)
	case kernelEventKindEVENT_LOOKUP:
		return k.handleLookup(sample)
	case kernelEventKindEVENT_UNCOUNTED:
		k.queue = append(k.queue, &Uncounted{Process: key, Way: uncountedWay(e.Pad), Time: int64(e.Time)})
		return nil
	case kernelEventKindEVENT_EXIT:
		k.ended++
		k.queue = append(k.queue, &Exit{Key: key, Time: int64(e.Time)})
		return nil
	case kernelEventKindEVENT_EXEC:
		k.ended++
		k.queue = append(k.queue, &Exit{Key: keyOf(e.Before), Time: int64(e.Time)})
	}
	var p kernelProcess
	err := k.objects.maps[kernelMapProcesses].Lookup(e.Process, &p)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read process map: %w", err)
	}
	process, err := k.convert.process(e.Process, &p)
	if err != nil {
		return err
	}
	k.queue = append(k.queue, process)
	return nil
}

// scan queues every process that the kernel side knows, oldest first, so that a parent comes before its children. An
// iteration that is disturbed by deletions may give an entry twice; observing a process twice changes nothing.
func (k *Kernel) scan(o *objects, c *converter) error {
	var found []*Process
	var key kernelProcessKey
	var p kernelProcess
	entries := o.maps[kernelMapProcesses].Iterate()
	for entries.Next(&key, &p) {
		process, err := c.process(key, &p)
		if err != nil {
			return err
		}
		found = append(found, process)
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("read process map: %w", err)
	}
	slices.SortStableFunc(found, func(a, b *Process) int {
		return cmp.Or(cmp.Compare(a.Began, b.Began), cmp.Compare(a.Key.ExecID, b.Key.ExecID))
	})
	for _, process := range found {
		k.queue = append(k.queue, process)
	}
	return nil
}

// Ended tells when a process instance ended, in boot ns, before its Exit comes out of Next; 0 while it runs, or if it has been
// forgotten. It may be called from any goroutine.
func (k *Kernel) Ended(key Key) int64 {
	var p kernelProcess
	if k.objects.maps[kernelMapProcesses].Lookup(rawKey(key), &p) != nil {
		return 0
	}
	return int64(p.Exited)
}

func rawKey(key Key) kernelProcessKey {
	return kernelProcessKey{Start: uint64(key.Start), Tgid: key.Tgid, ExecId: key.ExecID}
}

// Forget implements [Source].
func (k *Kernel) Forget(keys []Key) error {
	removed := map[uint32]uint64{}
	for _, key := range keys {
		raw := rawKey(key)
		var p kernelProcess
		err := k.objects.maps[kernelMapProcesses].LookupAndDelete(raw, &p)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("forget process %d: %w", key.Tgid, err)
		}
		removed[p.Uid]++
		if p.Flags&uint32(kernelProcessFlagPROCESS_LONG) == 0 {
			continue
		}
		if err := k.objects.maps[kernelMapLongTexts].Delete(raw); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget command line of process %d: %w", key.Tgid, err)
		}
	}
	return k.countRemoved(removed)
}

// countRemoved gives users back their share; only the host writes this map.
func (k *Kernel) countRemoved(removed map[uint32]uint64) error {
	m := k.objects.maps[kernelMapUsersRemoved]
	for uid, n := range removed {
		var before uint64
		if err := m.Lookup(uid, &before); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read removed processes of user %d: %w", uid, err)
		}
		if err := m.Put(uid, before+n); err != nil {
			return fmt.Errorf("count removed processes of user %d: %w", uid, err)
		}
	}
	return nil
}

func uncountedWay(way uint32) string {
	switch kernelUncounted(way) {
	case kernelUncountedUNCOUNTED_XDP:
		return "AF_XDP socket"
	case kernelUncountedUNCOUNTED_RX_RING:
		return "mapped packet ring"
	case kernelUncountedUNCOUNTED_RECEIVE_ZC:
		return "io_uring zero-copy receive"
	case kernelUncountedUNCOUNTED_TUN:
		return "TUN device"
	case kernelUncountedUNCOUNTED_TAP:
		return "macvtap device"
	}
	return "unknown way"
}
