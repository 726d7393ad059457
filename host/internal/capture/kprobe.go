package capture

import (
	"bufio"
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
	const events = "/sys/kernel/tracing/kprobe_events"
	list, err := os.Open(events)
	if err != nil {
		return // there can be none without it
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		_, name, _ := strings.Cut(lines.Text(), ":")
		name, _, _ = strings.Cut(name, " ")
		if strings.HasPrefix(name, probeGroup+"_") {
			_ = os.WriteFile(events, []byte("-:"+name), 0)
		}
	}
}
