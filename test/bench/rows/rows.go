// Package rows makes traffic to measure stores with: 400 executables, 3,000 command lines, 8,000 addresses, each drawn with
// Zipf's law (1.1), and 70 % of each window's rows between the same two ends as a row of the last hour. The same seed makes
// the same rows.
package rows

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"google.golang.org/protobuf/proto"
)

// What there is to draw from.
const (
	Executables = 400
	Commands    = 3000
	Addresses   = 8000
)

// Window is how long a window lasts.
const Window = 10 * time.Second

// tuple is what repeats: who talked to whom. Its local port is a new one each time.
type tuple struct{ command, address int }

// Generator makes rows. It is not safe for concurrent use.
type Generator struct {
	random              *rand.Rand
	commands, addresses *rand.Zipf
	processes           []*wire.Process // by command, made when first drawn
	parents             []*wire.Process
	hour                []tuple // of the last hour, the oldest first
	counts              []int   // of each window in hour
	perWindow           int     // rows
	left                int     // rows that the current window still gets
	end                 time.Time
	sequence            uint64
	hostID, epoch       sdk.Epoch
}

// New makes a generator whose windows begin at start and have perWindow rows each.
func New(seed uint64, start time.Time, perWindow int) *Generator {
	r := rand.New(rand.NewPCG(seed, 1))
	g := &Generator{random: r, perWindow: perWindow, end: start,
		commands: rand.NewZipf(r, 1.1, 1, Commands-1), addresses: rand.NewZipf(r, 1.1, 1, Addresses-1),
		processes: make([]*wire.Process, Commands), hostID: sdk.Epoch{1}, epoch: sdk.Epoch{byte(seed), 9}}
	for i, name := range []string{"bash", "systemd", "python3", "cron", "gnome-shell"} {
		g.parents = append(g.parents, process("/usr/bin/"+name, name, 100_000+i))
	}
	return g
}

// Batch makes the next n rows, sealed but not chained, as a host would encode them.
func (g *Generator) Batch(n int) (*sdk.Batch, error) {
	b := &wire.Batch{HostId: g.hostID[:], Epoch: g.epoch[:], First: g.sequence + 1, Last: g.sequence + uint64(n)}
	for range n {
		g.sequence++
		b.Records = append(b.Records, &wire.Record{Sequence: g.sequence, Kind: &wire.Record_Flow{Flow: g.Flow()}})
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return &sdk.Batch{Batch: b, Epoch: g.epoch, Raw: raw}, nil
}

// End is the end of the window of the row that was made last.
func (g *Generator) End() time.Time { return g.end }

// Flow makes the next row. What it shares with others is read-only.
func (g *Generator) Flow() *wire.Flow {
	if g.left == 0 {
		g.next()
	}
	g.left--
	t := g.tuple()
	g.hour = append(g.hour, t)
	g.counts[len(g.counts)-1]++
	begin, end := g.end.Add(-Window).UnixNano(), g.end.UnixNano()
	address := binary.BigEndian.AppendUint32(nil, 0x5d010000+uint32(t.address)*257)
	return &wire.Flow{
		Window: &wire.Window{Start: begin, End: end, StartBoot: begin, EndBoot: end},
		Sent:   g.random.Uint64N(1 << 16), Received: g.random.Uint64N(1 << 20),
		Sends: 1 + g.random.Uint64N(20), Receives: 1 + g.random.Uint64N(40), Connects: g.random.Uint64N(2),
		Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_OPEN, Layer: wire.Layer_LAYER_SOCKET,
		Family: 2, Protocol: protocol(t.address), Peer: wire.Peer_PEER_EXACT,
		Local:  &wire.Endpoint{Ip: []byte{192, 168, 1, 17}, Port: int32(32768 + g.random.IntN(28000))},
		Remote: &wire.Endpoint{Ip: address, Port: remotePort(t.address)},
		Domain: &wire.Domain{Name: &wire.Text{Value: []byte(domain(t.address))}, Source: wire.NameSource_NAME_SOURCE_SNI},
		Socket: g.random.Uint64N(1 << 32), Netns: 4026531840,
		Process: g.process(t.command), Parent: g.parents[t.command%len(g.parents)], Grandparent: g.parents[1],
		Attribution: wire.Attribution_ATTRIBUTION_KERNEL, Counting: wire.Counting_COUNTING_TRACEPOINT,
	}
}

// next begins a window and forgets what is older than an hour.
func (g *Generator) next() {
	g.left, g.end = g.perWindow, g.end.Add(Window)
	g.counts = append(g.counts, 0)
	if len(g.counts) > int(time.Hour/Window)+1 {
		g.hour, g.counts = g.hour[g.counts[0]:], g.counts[1:]
	}
}

func (g *Generator) tuple() tuple {
	if n := len(g.hour); n > 0 && g.random.IntN(10) < 7 {
		return g.hour[g.random.IntN(n)]
	}
	return tuple{int(g.commands.Uint64()), int(g.addresses.Uint64())}
}

// Executable is the path of the executable of a command line; 0 is the one drawn most often.
func Executable(command int) string {
	return fmt.Sprintf("/usr/lib/programs/bin/program-%d", command%Executables)
}

func (g *Generator) process(command int) *wire.Process {
	if g.processes[command] == nil {
		path := Executable(command)
		g.processes[command] = process(path, fmt.Sprintf("%s\x00--option\x00value %d\x00https://%s/path", path, command, domain(command)),
			command)
	}
	return g.processes[command]
}

func process(path, command string, n int) *wire.Process {
	sum := sha256.Sum256([]byte(path))
	return &wire.Process{
		Id:          &wire.ProcessId{BootId: make([]byte, 16), Tgid: uint32(1000 + n), StartBoot: int64(n) * 1e9, ExecId: 1},
		Name:        &wire.Text{Value: []byte(path[len(path)-min(len(path), 10):])},
		CommandLine: &wire.Text{Value: []byte(command)},
		Executable: &wire.Executable{Path: &wire.Text{Value: []byte(path)}, Superblock: 1, Device: 2,
			Inode: binary.BigEndian.Uint64(sum[:]) >> 32, Ctime: 5, Size: 100, Sha256: sum[:], HashStatus: wire.HashStatus_HASH_OK},
		Ruid: uint32(1000 + n%4), Euid: uint32(1000 + n%4), Loginuid: 1000, Session: 1,
		Cgroup: &wire.Cgroup{Path: &wire.Text{Value: fmt.Appendf(nil, "/user.slice/app-%d.scope", n%50)}},
		Unit:   &wire.Unit{Id: fmt.Sprintf("app-%d.scope", n%50), Runtime: "systemd"},
	}
}

func domain(address int) string { return fmt.Sprintf("host-%d.site-%d.org", address, address%900) }

func protocol(address int) uint32 {
	if address%10 == 0 {
		return 17
	}
	return 6
}

func remotePort(address int) int32 {
	ports := []int32{443, 443, 443, 443, 80, 53, 22, 993, 8443, 123}
	return ports[address%len(ports)]
}
