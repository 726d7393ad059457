package capture

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Hook is one thing that the kernel is asked to tell, and how it does.
type Hook struct {
	Sees      string    // in words
	Way       string    // "tracepoint", "fexit", "kprobe", "cgroup"; "" if there is none here
	Programs  []string  // at work
	Essential bool      // without it there is nothing to count
	Failures  []Failure // of the ways that were tried before
}

// way is one way to see something: programs that are attached together, and the kernel's part that each needs.
type way struct {
	name     string
	programs []string
	optional []string // left out where the kernel does not have the function
}

// hook is a Hook before a way is chosen; the first that works is taken.
type hook struct {
	sees      string
	essential bool
	ways      []way
}

// hooks in the order in which they are attached. Processes come first: a flow should find its process known. No byte is
// counted by two of them: the ways of one hook exclude each other.
func hooks() []hook {
	tracepoint := func(program string) []way { return []way{{name: "tracepoint", programs: []string{program}}} }
	cgroup := func(program string) []way { return []way{{name: "cgroup", programs: []string{program}}} }
	return []hook{
		{"programs that are started", true, tracepoint(kernelProgProcessExec)},
		{"processes that are forked", true, tracepoint(kernelProgProcessFork)},
		{"ends of processes", true, tracepoint(kernelProgProcessExit)},
		{"peers of datagrams whose reader does not ask for them, and answers of name servers", false, cgroup(kernelProgArrive)},
		{"peers of IPv4 datagrams that are sent", false, cgroup(kernelProgSendToV4)},
		{"peers of IPv6 datagrams that are sent", false, cgroup(kernelProgSendToV6)},
		{"peers of IPv4 datagrams that are received", false, cgroup(kernelProgReceiveV4)},
		{"peers of IPv6 datagrams that are received", false, cgroup(kernelProgReceiveV6)},
		{"peers of raw and ICMP sockets that send, and names", false, cgroup(kernelProgDepart)},
		{"peers of raw and ICMP sockets that receive", false, tracepoint(kernelProgPacketCopy)},
		{"bytes that leave a TCP socket by splice, sendfile or mapping", false, []way{
			{name: "tracepoint and fexit", programs: []string{kernelProgTcpSpaceBeside, kernelProgSpliceRead}},
			{name: "tracepoint", programs: []string{kernelProgTcpSpace}},
		}},
		{"AF_XDP sockets and mapped packet rings", false, cgroup(kernelProgSetOption)},
		{"io_uring's zero-copy receive", false, tracepoint(kernelProgRingRegister)},
		{"TUN devices that are opened", false, cgroup(kernelProgOpenDevice)},
		{"packets of tunnels, and macvtap devices that are written to", false, tracepoint(kernelProgPacketQueue)},
		{"owners of SCTP associations", false, cgroup(kernelProgSocketCreate)},
		{"connects that have no answer yet", false, cgroup(kernelProgTcpEvent)},
		{"connects, accepts and listens", false, tracepoint(kernelProgSockState)},
		{"bytes received", true, []way{
			{name: "tracepoint", programs: []string{kernelProgSockReceive}},
			{name: "fexit", programs: []string{kernelProgInetReceive, kernelProgInet6Receive}, optional: []string{
				kernelProgCommonReceive, kernelProgPacketReceive, kernelProgVsockReceive, kernelProgVsockReceiveDatagram, kernelProgOtherReceive,
				kernelProgInetReceiveBegin, kernelProgInet6ReceiveBegin, kernelProgCommonReceiveBegin, kernelProgPacketReceiveBegin, kernelProgTcpTaken}},
			{name: "kprobe", programs: []string{kernelProgInetRecvIn, kernelProgInetRecvOut, kernelProgInet6RecvIn, kernelProgInet6RecvOut},
				optional: []string{kernelProgCommonRecvIn, kernelProgCommonRecvOut, kernelProgUdpConsumed}},
		}},
		{"bytes sent", true, []way{
			{name: "tracepoint", programs: []string{kernelProgSockSend}},
			{name: "fexit", programs: []string{kernelProgInetSend, kernelProgInet6Send}, optional: []string{
				kernelProgInetSendpage, kernelProgPacketSend, kernelProgVsockSend, kernelProgVsockSendDatagram, kernelProgOtherSend,
				kernelProgInetSendBegin, kernelProgInet6SendBegin, kernelProgPacketSendBegin}},
			{name: "kprobe", programs: []string{kernelProgInetSendIn, kernelProgInetSendOut, kernelProgInet6SendIn, kernelProgInet6SendOut},
				optional: []string{kernelProgSendpageIn, kernelProgSendpageOut}},
		}},
	}
}

// attachments attach programs to this machine.
type attachments struct {
	cgroup  string // root of the cgroup v2 hierarchy
	kernel  *btf.Spec
	noFexit error    // why no fexit program can be had here; nil: it can
	lacks   []string // see Options
}

// available tells whether the kernel has what a program attaches to, as far as its type information says; if not, why.
func (a attachments) available(p *ebpf.ProgramSpec) error {
	kind, target, _ := strings.Cut(p.SectionName, "/")
	var trace *btf.Typedef
	switch {
	case slices.Contains(a.lacks, kind), slices.Contains(a.lacks, target), strings.HasSuffix(kind, "probe") && !a.probed(target):
		return errAbsent
	case kind == "fentry":
		return a.available(&ebpf.ProgramSpec{SectionName: "fexit/" + target}) // the kernel has both, or neither
	case kind == "tp_btf" && a.kernel.TypeByName("btf_trace_"+target, &trace) != nil, kind == "fexit" && !a.function(target):
		return errAbsent
	case kind == "fexit":
		return a.noFexit
	}
	return nil
}

// function tells whether the kernel, or a module that is loaded, has a function.
func (a attachments) function(name string) bool {
	var f *btf.Func
	if a.kernel.TypeByName(name, &f) == nil {
		return true
	}
	module, _, found := strings.Cut(name, "_") // the name of the module comes first in those that are asked for
	if !found {
		return false
	}
	spec, err := btf.LoadKernelModuleSpec(module)
	return err == nil && spec.TypeByName(name, &f) == nil
}

func (a attachments) attach(p *ebpf.Program, spec *ebpf.ProgramSpec) (link.Link, error) {
	if strings.HasPrefix(spec.SectionName, "cgroup") || spec.SectionName == "sockops" {
		return link.AttachCgroup(link.CgroupOptions{Path: a.cgroup, Attach: spec.AttachType, Program: p})
	}
	if p.Type() == ebpf.Kprobe {
		return attachKprobe(p, spec)
	}
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// ErrHook is wrapped by the error of Open when an essential hook cannot be had. [Check] tells the whole story.
var ErrHook = errors.New("this kernel does not let picosnitch see")

// choose loads and attaches a way for every hook. What cannot be had, and is not essential, is noted in the result.
func (o *objects) choose(spec *ebpf.CollectionSpec, a attachments) error {
	o.loadLikely(spec, a)
	if o.programs[kernelProgExistingTasks] == nil {
		if err := o.loadPrograms(spec, unpinned()); err != nil {
			return err
		}
	}
	for _, h := range hooks() {
		state := Hook{Sees: h.sees, Essential: h.essential}
		for _, w := range h.ways {
			err := o.try(spec, a, w, &state)
			if err == nil {
				break
			}
			state.Failures = append(state.Failures, Failure{Way: w.name, Err: err})
		}
		o.hooks = append(o.hooks, state)
	}
	o.hooks = append(o.hooks, o.probeLibraries())
	for _, h := range o.hooks {
		if h.Way == "" && h.Essential {
			return fmt.Errorf("%w %s: %w", ErrHook, h.Sees, h.why())
		}
	}
	return nil
}

// loadLikely loads in one go what will most likely be chosen: a tenth of the time of loading one by one. If the kernel
// refuses any of it, nothing is loaded, and each is tried on its own.
func (o *objects) loadLikely(spec *ebpf.CollectionSpec, a attachments) {
	likely := unpinned()
	for _, h := range hooks() {
		for _, w := range h.ways {
			if names, err := a.programs(spec, w); err == nil {
				likely = append(likely, names...)
				break
			}
		}
	}
	_ = o.loadPrograms(spec, likely)
}

var errAbsent = errors.New("the kernel does not have it")

// programs are those of a way that this kernel can attach; an error if one is missing that the way needs.
func (a attachments) programs(spec *ebpf.CollectionSpec, w way) ([]string, error) {
	for _, name := range w.programs {
		if err := a.available(spec.Programs[name]); err != nil {
			return nil, fmt.Errorf("attach %s: %w", spec.Programs[name].SectionName, err)
		}
	}
	names := slices.Clone(w.programs)
	for _, name := range w.optional {
		if a.available(spec.Programs[name]) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// try loads and attaches one way; on failure nothing of it stays attached.
func (o *objects) try(spec *ebpf.CollectionSpec, a attachments, w way, state *Hook) error {
	names, err := a.programs(spec, w)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(name string) bool { return o.programs[name] == nil }) {
		if err := o.loadPrograms(spec, names); err != nil {
			return err
		}
	}
	for i, name := range names {
		l, err := a.attach(o.programs[name], spec.Programs[name])
		if err != nil {
			for _, attached := range names[:i] {
				o.links[attached].Close()
				delete(o.links, attached)
			}
			return fmt.Errorf("attach %s: %w", spec.Programs[name].SectionName, err)
		}
		o.links[name] = l
	}
	state.Way, state.Programs = w.name, names
	return nil
}

// remember finds out, from the links that another host of this version left, what is at work.
func (o *objects) remember() {
	for _, h := range hooks() {
		state := Hook{Sees: h.sees, Essential: h.essential}
		for _, w := range h.ways {
			if o.links[w.programs[0]] == nil {
				continue
			}
			state.Way = w.name
			for _, name := range slices.Concat(w.programs, w.optional) {
				if o.links[name] != nil {
					state.Programs = append(state.Programs, name)
				}
			}
		}
		o.hooks = append(o.hooks, state)
	}
}

// counting is how bytes are counted.
func (o *objects) counting() wire.Counting {
	switch {
	case o.links[kernelProgSockSend] != nil:
		return wire.Counting_COUNTING_TRACEPOINT
	case o.links[kernelProgInetSendOut] != nil:
		return wire.Counting_COUNTING_KPROBE
	}
	return wire.Counting_COUNTING_FEXIT
}

// ErrNoCgroup tells that no cgroup v2 hierarchy is mounted.
var ErrNoCgroup = errors.New("no cgroup v2 file system is mounted")

// CgroupRoot finds where the cgroup v2 hierarchy is mounted: at /sys/fs/cgroup, or at /sys/fs/cgroup/unified beside v1.
func CgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup root: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if found && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return fields[4], nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("find cgroup root: %w", err)
	}
	return "", ErrNoCgroup
}
