package capture

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// causes are the words for the kernel's loss counters. Exact ones lost no byte: see Loss.
func causes() map[kernelLossCause]Loss {
	return map[kernelLossCause]Loss{
		kernelLossCauseLOSS_FLOW_FULL:      {Cause: "flow map full", Exact: true},
		kernelLossCauseLOSS_FLOW_MEMORY:    {Cause: "no memory for flow", Exact: true},
		kernelLossCauseLOSS_FLOW_SHARE:     {Cause: "share of flow map used up", Exact: true},
		kernelLossCauseLOSS_OWNER_FULL:     {Cause: "owner map full"},
		kernelLossCauseLOSS_PROCESS_FULL:   {Cause: "process map full"},
		kernelLossCauseLOSS_PROCESS_SHARE:  {Cause: "share of process map used up"},
		kernelLossCauseLOSS_TEXT_FULL:      {Cause: "map of long command lines full"},
		kernelLossCauseLOSS_EVENT_FULL:     {Cause: eventCause, Exact: true},
		kernelLossCauseLOSS_SOCKET_STORAGE: {Cause: "no memory for socket state"},
		kernelLossCauseLOSS_THREAD_FULL:    {Cause: "thread map full"},
		kernelLossCauseLOSS_NAME_FULL:      {Cause: "no room for what names an address", Exact: true},
		kernelLossCauseLOSS_TUNNEL_FULL:    {Cause: "no room for packets of tunnels", Exact: true},
		kernelLossCauseLOSS_CALL:           {Cause: "end of a call not seen"},
		kernelLossCauseLOSS_EXPIRED:        {Cause: "probes switched themselves off: nobody drained them"},
	}
}

// eventCause is exact: the process map is read as a whole when hints were lost.
const eventCause = "exec ring full"

// lossLedger turns the kernel's counters, which only grow, into what is new.
type lossLedger struct {
	objects *objects
	told    map[string]Loss
	events  uint64 // lost hints at the last look of missedEvents
}

func newLossLedger(o *objects, told map[string]Loss) *lossLedger {
	l := &lossLedger{objects: o, told: maps.Clone(told)}
	if l.told == nil {
		l.told = map[string]Loss{}
	}
	return l
}

// read sums the counters of all CPUs and of the programs themselves.
func (l *lossLedger) read() (map[string]Loss, error) {
	totals := map[string]Loss{}
	for index, loss := range causes() {
		var perCPU []kernelLoss
		if err := l.objects.maps[kernelMapLosses].Lookup(uint32(index), &perCPU); err != nil {
			return nil, fmt.Errorf("read loss counters: %w", err)
		}
		for _, c := range perCPU {
			loss.Events += c.Events
			loss.Sent += c.Sent
			loss.Received += c.Received
		}
		totals[loss.Cause] = loss
	}
	for name, l := range l.objects.links {
		missed, err := recursionMisses(l)
		if err != nil {
			return nil, err
		}
		cause := "program " + name + " was already running"
		totals[cause] = Loss{Cause: cause, Events: missed}
	}
	return totals, nil
}

// recursionMisses counts the runs that the kernel left out because the program was interrupted by itself.
func recursionMisses(l link.Link) (uint64, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("look at link: %w", err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return 0, fmt.Errorf("open program of link: %w", err)
	}
	defer p.Close()
	stats, err := p.Stats()
	if err != nil {
		return 0, fmt.Errorf("read program counters: %w", err)
	}
	return stats.RecursionMisses, nil
}

// missedEvents tells whether hints were lost since it was asked last.
func (l *lossLedger) missedEvents() (bool, error) {
	var perCPU []kernelLoss
	if err := l.objects.maps[kernelMapLosses].Lookup(uint32(kernelLossCauseLOSS_EVENT_FULL), &perCPU); err != nil {
		return false, fmt.Errorf("read loss counters: %w", err)
	}
	total := uint64(0)
	for _, c := range perCPU {
		total += c.Events
	}
	missed := total != l.events
	l.events = total
	return missed, nil
}

// since gives what was lost since it was called last, sorted by cause.
func (l *lossLedger) since() ([]Loss, error) {
	totals, err := l.read()
	if err != nil {
		return nil, err
	}
	var news []Loss
	for _, cause := range slices.Sorted(maps.Keys(totals)) {
		total, before := totals[cause], l.told[cause]
		if total.Events == before.Events {
			continue
		}
		total.Events -= before.Events
		total.Sent -= before.Sent
		total.Received -= before.Received
		news = append(news, total)
	}
	for cause, total := range totals {
		if total.Events > 0 {
			l.told[cause] = total
		}
	}
	return news, nil
}

// totals is what has been told so far.
func (l *lossLedger) totals() map[string]Loss { return maps.Clone(l.told) }
