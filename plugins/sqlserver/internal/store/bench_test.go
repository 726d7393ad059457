package store

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/servertest"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// generator makes the traffic of a machine: 400 executables, 3,000 command lines, 8,000 addresses, Zipf 1.1, and 70 % of a
// window's flows as before.
type generator struct {
	random                        *rand.Rand
	commands, addresses, programs *rand.Zipf
	last                          []*wire.Flow
	sequence                      uint64
	window                        int64
	every                         time.Duration // between the starts of windows
}

func newGenerator(seed uint64) *generator {
	r := rand.New(rand.NewPCG(seed, 1))
	return &generator{random: r, commands: rand.NewZipf(r, 1.1, 1, 2999), addresses: rand.NewZipf(r, 1.1, 1, 7999),
		programs: rand.NewZipf(r, 1.1, 1, 399), every: 10 * time.Second}
}

func (g *generator) flow() *wire.Flow {
	if len(g.last) > 0 && g.random.IntN(10) < 7 {
		f := proto.CloneOf(g.last[g.random.IntN(len(g.last))])
		f.Sent, f.Received = g.random.Uint64N(1<<20), g.random.Uint64N(1<<24)
		return f
	}
	command := int(g.commands.Uint64())
	program := command % (1 + int(g.programs.Uint64()))
	address := int(g.addresses.Uint64())
	p := process(fmt.Sprintf("/usr/lib/programs/bin/program-%d", program),
		fmt.Sprintf("program-%d\x00--option\x00value %d\x00https://host-%d.example.org/path", program, command, command), command)
	f := flow(0, p, g.random.Uint64N(1<<20), g.random.Uint64N(1<<24),
		netip.AddrFrom4([4]byte{93, 1, byte(address >> 8), byte(address)}).String(), fmt.Sprintf("host-%d.example.org", address)).GetFlow()
	f.Local.Port = int32(32768 + g.random.IntN(28000))
	f.Socket = g.random.Uint64()
	f.Grandparent = process("/usr/lib/systemd/systemd", "/sbin/init", 0)
	return f
}

// batch makes the next batch, one window.
func (g *generator) batch(size int) *sdk.Batch {
	records := make([]*wire.Record, size)
	flows := make([]*wire.Flow, size)
	g.window++
	begin := start + g.window*int64(g.every)
	for i := range records {
		f := g.flow()
		f.Window = &wire.Window{Start: begin, End: begin + int64(10*time.Second), StartBoot: begin, EndBoot: begin}
		flows[i], records[i] = f, &wire.Record{Kind: &wire.Record_Flow{Flow: f}}
	}
	g.last = flows
	b := batch(9, g.sequence+1, records...)
	g.sequence += uint64(size)
	return b
}

// BenchmarkApply stores batches of 2,000 flows; rows/s counts committed rows, with the server's fsync. The server shares
// the machine.
func BenchmarkApply(b *testing.B) {
	const size = 2000
	for _, c := range []struct {
		kind  string
		begin func(testing.TB) string
	}{
		{"PostgreSQL", func(t testing.TB) string { return servertest.PostgreSQL(t).SocketConfig("") }},
		{"MariaDB", func(t testing.TB) string { return servertest.MariaDB(t).SocketConfig("") }},
		{"PostgreSQLRowSecurity", func(t testing.TB) string { return postgresRoles(t).web1 }},
		{"MariaDBView", func(t testing.TB) string { return mariadbRoles(t).web1 }},
	} {
		b.Run(c.kind, func(b *testing.B) {
			s := open(b, c.begin(b))
			g := newGenerator(1)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				batch := g.batch(size)
				batch.HostId = streamOf(false).Host[:]
				b.StartTimer()
				apply(b, s, batch)
			}
			b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkQuery asks about a million rows over 30 days, or as many as PICOSNITCH_BENCH_ROWS says. The server shares the
// machine.
func BenchmarkQuery(b *testing.B) {
	const size, days = 2000, 30
	rows := 1_000_000
	if text := os.Getenv("PICOSNITCH_BENCH_ROWS"); text != "" {
		rows, _ = strconv.Atoi(text)
	}
	for kind, begin := range map[string]func(testing.TB) *servertest.Server{
		"PostgreSQL": servertest.PostgreSQL, "MariaDB": servertest.MariaDB,
	} {
		b.Run(kind, func(b *testing.B) {
			s := open(b, begin(b).SocketConfig(""))
			g := newGenerator(1)
			g.every = days * 24 * time.Hour * size / time.Duration(rows)
			for range rows / size {
				apply(b, s, g.batch(size))
			}
			end := start + days*24*int64(time.Hour)
			day, sent := end-24*int64(time.Hour), []*wire.Order{{Column: "sent", Descending: true}}
			for _, c := range []struct {
				name string
				q    *wire.Query
			}{
				{"executables of a day", &wire.Query{By: []string{"exe"}, Start: day, Order: sent, Limit: 10, Others: true, Totals: true}},
				{"command lines of a day", &wire.Query{By: []string{"cmdline"}, Start: day, Order: sent, Limit: 10}},
				{"series of an executable", &wire.Query{By: []string{"exe"}, Where: equal("name", "program-1"), Bucket: int64(time.Hour), Zone: "Europe/Berlin"}},
				{"addresses of 30 days", &wire.Query{By: []string{"raddr"}, Order: sent, Limit: 10}},
				{"hashes of 30 days", &wire.Query{By: []string{"sha256"}, Order: sent, Limit: 10}},
			} {
				b.Run(c.name, func(b *testing.B) {
					for range b.N {
						if err := s.Query(b.Context(), c.q, func(*wire.QueryPage) error { return nil }); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}
