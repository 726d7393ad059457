package capture

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// hook is one program and how it is attached.
type hook struct {
	name   string // of the program
	loses  string // what is not seen without it
	attach func(*ebpf.Program) (link.Link, error)
}

// way is a set of hooks that together see everything that a way into the kernel can see. The kernel decides which ways
// there are: tracepoints need Linux 6.3.
type way interface {
	hooks() []hook
}

// tracepoints is the way that works without kprobes and fentry: BTF tracepoints for calls and processes, cgroup hooks
// for the addresses of datagrams.
type tracepoints struct {
	cgroup string // root of the cgroup v2 hierarchy
}

func (t tracepoints) hooks() []hook {
	traced := func(p *ebpf.Program) (link.Link, error) { return link.AttachTracing(link.TracingOptions{Program: p}) }
	grouped := func(kind ebpf.AttachType) func(*ebpf.Program) (link.Link, error) {
		return func(p *ebpf.Program) (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: t.cgroup, Attach: kind, Program: p})
		}
	}
	// Processes first: a flow should find its process known.
	return []hook{
		{kernelProgProcessExec, "programs that are started", traced},
		{kernelProgProcessFork, "processes that are forked", traced},
		{kernelProgProcessExit, "ends of processes", traced},
		{kernelProgDeliver, "peers of datagrams whose reader does not ask for them", grouped(ebpf.AttachCGroupInetIngress)},
		{kernelProgSendToV4, "peers of IPv4 datagrams that are sent", grouped(ebpf.AttachCGroupUDP4Sendmsg)},
		{kernelProgSendToV6, "peers of IPv6 datagrams that are sent", grouped(ebpf.AttachCGroupUDP6Sendmsg)},
		{kernelProgReceiveV4, "peers of IPv4 datagrams that are received", grouped(ebpf.AttachCGroupUDP4Recvmsg)},
		{kernelProgReceiveV6, "peers of IPv6 datagrams that are received", grouped(ebpf.AttachCGroupUDP6Recvmsg)},
		{kernelProgDepart, "peers of raw and ICMP sockets that send", grouped(ebpf.AttachCGroupInetEgress)},
		{kernelProgPacketCopy, "peers of raw and ICMP sockets that receive", traced},
		{kernelProgTcpSpace, "bytes that leave a TCP socket by splice, sendfile or mapping", traced},
		{kernelProgSockState, "connects, accepts and listens", traced},
		{kernelProgSockReceive, "bytes received", traced},
		{kernelProgSockSend, "bytes sent", traced},
	}
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
