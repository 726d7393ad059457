package store

import (
	"os"
	"strconv"
	"testing"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// BenchmarkApply stores batches of 2,000 flows; rows/s counts committed rows, with the server's fsync. The server shares
// the machine.
func BenchmarkApply(b *testing.B) {
	const size = 2000
	for _, c := range []struct {
		kind  string
		begin func(testing.TB) string
	}{
		{"PostgreSQL", func(t testing.TB) string { return dbserver.PostgreSQL(t).SocketConfig("") }},
		{"MariaDB", func(t testing.TB) string { return dbserver.MariaDB(t).SocketConfig("") }},
		{"PostgreSQLRowSecurity", func(t testing.TB) string { return postgresRoles(t).web1 }},
		{"MariaDBView", func(t testing.TB) string { return mariadbRoles(t).web1 }},
	} {
		b.Run(c.kind, func(b *testing.B) {
			s := open(b, c.begin(b))
			g := newGenerator(1)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				batch := g.Batch(size)
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
	for kind, begin := range map[string]func(testing.TB) *dbserver.Server{
		"PostgreSQL": dbserver.PostgreSQL, "MariaDB": dbserver.MariaDB,
	} {
		b.Run(kind, func(b *testing.B) {
			s := open(b, begin(b).SocketConfig(""))
			g := newGenerator(1)
			g.Every = days * 24 * time.Hour * size / time.Duration(rows)
			for range rows / size {
				apply(b, s, g.Batch(size))
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
