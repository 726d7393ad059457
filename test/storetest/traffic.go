package storetest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Traffic is that of a machine: 400 executables, 3,000 command lines, 8,000 addresses, Zipf 1.1, and 70 % of
// a window's flows as before.
type Traffic struct {
	random                        *rand.Rand
	commands, addresses, programs *rand.Zipf
	last                          []*wire.Flow
	sequence                      uint64
	window                        int64
	Every                         time.Duration // between the starts of windows
}

// NewTraffic is the same traffic for the same seed.
func NewTraffic(seed uint64) *Traffic {
	r := rand.New(rand.NewPCG(seed, 1))
	return &Traffic{random: r, commands: rand.NewZipf(r, 1.1, 1, 2999), addresses: rand.NewZipf(r, 1.1, 1, 7999),
		programs: rand.NewZipf(r, 1.1, 1, 399), Every: 10 * time.Second}
}

func (g *Traffic) flow() *wire.Flow {
	if len(g.last) > 0 && g.random.IntN(10) < 7 {
		f := proto.CloneOf(g.last[g.random.IntN(len(g.last))])
		f.Sent, f.Received = g.random.Uint64N(1<<20), g.random.Uint64N(1<<24)
		return f
	}
	command := int(g.commands.Uint64())
	program := command % (1 + int(g.programs.Uint64()))
	address := int(g.addresses.Uint64())
	p := Process(fmt.Sprintf("/usr/lib/programs/bin/program-%d", program),
		fmt.Sprintf("program-%d\x00--option\x00value %d\x00https://host-%d.example.org/path", program, command, command), command)
	f := Flow(0, p, g.random.Uint64N(1<<20), g.random.Uint64N(1<<24),
		netip.AddrFrom4([4]byte{93, 1, byte(address >> 8), byte(address)}).String(), fmt.Sprintf("host-%d.example.org", address)).GetFlow()
	f.Local.Port = int32(32768 + g.random.IntN(28000))
	f.Socket = g.random.Uint64()
	f.Grandparent = Process("/usr/lib/systemd/systemd", "/sbin/init", 0)
	return f
}

// Batch makes the next batch, one window.
func (g *Traffic) Batch(size int) *sdk.Batch {
	records := make([]*wire.Record, size)
	flows := make([]*wire.Flow, size)
	g.window++
	begin := Start + g.window*int64(g.Every)
	for i := range records {
		f := g.flow()
		f.Window = &wire.Window{Start: begin, End: begin + int64(10*time.Second), StartBoot: begin, EndBoot: begin}
		flows[i], records[i] = f, &wire.Record{Kind: &wire.Record_Flow{Flow: f}}
	}
	g.last = flows
	b := Batch(9, g.sequence+1, records...)
	g.sequence += uint64(size)
	return b
}
