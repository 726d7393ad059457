package capture

import (
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// waitingCalls is how many calls to one function may wait in the kernel while their ends are still seen: the most that it
// has room for. An end that is not seen is a loss, told as "end of a call not seen".
const waitingCalls = 4096

// probeGroup begins the names of the kernel's trace events of kretprobes.
const probeGroup = "picosnitch"

// probed tells whether a kernel function can have a kprobe.
func (a attachments) probed(name string) bool {
	_, err := os.Stat("/sys/bus/event_source/devices/kprobe")
	return err == nil && a.function(name)
}

// attachKprobe attaches a program to the begin, or the end, of a kernel function.
func attachKprobe(p *ebpf.Program, spec *ebpf.ProgramSpec) (link.Link, error) {
	if strings.HasPrefix(spec.SectionName, "kretprobe/") {
		return link.Kretprobe(spec.AttachTo, p, &link.KprobeOptions{RetprobeMaxActive: waitingCalls, TraceFSPrefix: probeGroup})
	}
	return link.Kprobe(spec.AttachTo, p, nil)
}

// sweepProbes removes the trace events of probes that a host left which was killed. Those of another host at work are in
// use, and stay.
func sweepProbes() {
	const path = "/sys/kernel/tracing/kprobe_events"
	list, err := os.ReadFile(path)
	if err != nil {
		return // there can be none without it
	}
	for line := range strings.Lines(string(list)) {
		_, name, _ := strings.Cut(line, ":")
		name, _, _ = strings.Cut(name, " ")
		if strings.HasPrefix(name, probeGroup+"_") {
			removeEvent(path, name)
		}
	}
}

// removeEvent appends to the list of events: to open it for anything else would clear it, of everybody's.
func removeEvent(path, name string) {
	events, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return
	}
	defer events.Close()
	_, _ = events.WriteString("-:" + name) // refused while it is in use
}
