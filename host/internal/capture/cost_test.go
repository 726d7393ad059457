package capture

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// traffic is one kind of call, made n times by run. programs take part in it where they are attached: once in each call,
// or once for each packet of it.
type traffic struct {
	name     string
	programs []string
	run      func(b *testing.B, n int)
}

// rounds are measured one after the other; their median counts.
const rounds = 9

// BenchmarkProgramCost gives the time that all our programs together add to a call, as the kernel itself measures it, net
// of an empty program attached to the same tracepoint in the same run.
func BenchmarkProgramCost(b *testing.B) {
	// What runs in the context of the caller: the program that counts, and those for what is handed over, or taken.
	sending := []string{kernelProgSockSend, kernelProgDepart, kernelProgPacketQueue}
	receiving := []string{kernelProgSockReceive, kernelProgPacketCopy, kernelProgTcpSpace, kernelProgTcpSpaceBeside}
	kinds := []traffic{
		{"tcp-send", sending, tcpTransfer},
		{"tcp-receive", receiving, tcpTransfer},
		{"udp-connected-send", sending, udpConnected},
		{"udp-connected-receive", receiving, udpConnected},
		{"udp-sendto", append([]string{kernelProgSendToV4}, sending...), udpUnconnected},
		{"udp-recvfrom", append([]string{kernelProgReceiveV4}, receiving...), udpUnconnected},
		{"udp-delivery", []string{kernelProgArrive}, udpUnconnected},
	}
	for _, kind := range kinds {
		b.Run(kind.name, kind.measure)
	}
}

func (kind traffic) measure(b *testing.B) {
	k, err := Open(benchOptions(b))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = k.remove() }()
	defer attachNothing(b).Close()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	kind.run(b, 10_000) // every map entry made, caches warm
	var net, base, runs []float64
	for range rounds {
		calls := max(b.N/rounds, 5_000)
		before, empty := costs(b, k), costOf(b, nothing(b))
		kind.run(b, calls)
		after, emptyAfter := costs(b, k), costOf(b, nothing(b))
		base = append(base, perRun(empty, emptyAfter))
		sum := cost{}
		for _, program := range kind.programs {
			sum.runs += after[program].runs - before[program].runs
			sum.time += after[program].time - before[program].time
		}
		runs = append(runs, float64(sum.runs)/float64(calls))
		net = append(net, (float64(sum.time)-base[len(base)-1]*float64(sum.runs))/float64(calls))
	}
	b.ReportMetric(median(net), "ns/call-net")
	b.ReportMetric(median(base), "ns/run-empty")
	b.ReportMetric(median(runs), "runs/call")
	b.ReportMetric(0, "ns/op")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

func benchOptions(b *testing.B) Options {
	o := testOptions(b, "bench")
	o.Interval = time.Hour // nothing is drained in between
	return o
}

type cost struct {
	runs uint64
	time time.Duration
}

func perRun(before, after cost) float64 {
	return float64(after.time-before.time) / float64(max(after.runs-before.runs, 1))
}

func costs(b *testing.B, k *Kernel) map[string]cost {
	all := map[string]cost{}
	for name, l := range k.objects.links {
		info, err := l.Info()
		if err != nil {
			b.Fatal(err)
		}
		all[name] = costOf(b, info.Program)
	}
	return all
}

func costOf(b *testing.B, id ebpf.ProgramID) cost {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	stats, err := p.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return cost{stats.RunCount, stats.Runtime}
}

// attachNothing attaches the empty program.
func attachNothing(b *testing.B) link.Link {
	spec, err := loadKernel()
	if err != nil {
		b.Fatal(err)
	}
	for name := range spec.Programs {
		if name != kernelProgNothing {
			delete(spec.Programs, name)
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatal(err)
	}
	defer coll.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs[kernelProgNothing]})
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// nothing finds the empty program, which attachNothing attached.
func nothing(b *testing.B) ebpf.ProgramID {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			b.Fatal(err)
		}
		p, err := ebpf.NewProgramFromID(next)
		if err == nil {
			info, err := p.Info()
			p.Close()
			if err == nil && info.Name == kernelProgNothing {
				return next
			}
		}
		id = next
	}
}

func tcpTransfer(b *testing.B, n int) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	server := <-accepted
	exchange(b, client, server, n)
}

func udpConnected(b *testing.B, n int) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	back, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, client.LocalAddr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer back.Close()
	exchange(b, client, server, n)
}

func exchange(b *testing.B, from, to net.Conn, n int) {
	defer from.Close()
	defer to.Close()
	message := make([]byte, 64)
	for range n {
		if _, err := from.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := to.Read(message); err != nil {
			b.Fatal(err)
		}
	}
}

func udpUnconnected(b *testing.B, n int) {
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	from, to := listen(), listen()
	defer from.Close()
	defer to.Close()
	peer := to.LocalAddr().(*net.UDPAddr).AddrPort()
	message := make([]byte, 64)
	for range n {
		if _, err := from.WriteToUDPAddrPort(message, peer); err != nil {
			b.Fatal(err)
		}
		if _, _, err := to.ReadFromUDPAddrPort(message); err != nil {
			b.Fatal(err)
		}
	}
}
