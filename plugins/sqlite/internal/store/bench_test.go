package store

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/bench/rows"
)

// benchDays is the span of time that the rows of a benchmark lie in.
const benchDays = 30

// benchRows is how many rows: PICOSNITCH_BENCH_ROWS, set by `make bench`, or few.
func benchRows(b *testing.B) int {
	b.Helper()
	text := os.Getenv("PICOSNITCH_BENCH_ROWS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		b.Fatalf("PICOSNITCH_BENCH_ROWS=%q: want a number of rows from 1000 on", text)
	}
	return n
}

// newRows makes the traffic of decision 33, so many rows in 30 days.
func newRows(count int) *rows.Generator {
	return rows.New(1, time.Unix(0, start), max(1, count/(benchDays*24*360)))
}

func benchBatch(b *testing.B, g *rows.Generator, size int) *sdk.Batch {
	b.Helper()
	batch, err := g.Batch(size)
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// BenchmarkApply stores batches of 4,096 flows, with roll-ups and without. rows/s counts committed rows, fsync included;
// µs/row is the processor time, which other programs disturb less.
func BenchmarkApply(b *testing.B) {
	for _, with := range []bool{true, false} {
		name := "RollUps"
		if !with {
			name = "NoRollUps"
		}
		b.Run(name, func(b *testing.B) {
			s := open(b, b.TempDir())
			s.writer.rollUp = with
			g := newRows(10_000_000)
			const size = wire.MaxBatchRecords
			var used time.Duration
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				batch := benchBatch(b, g, size)
				before := processorTime(b)
				b.StartTimer()
				apply(b, s, batch)
				b.StopTimer()
				used += processorTime(b) - before
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(used.Microseconds())/(float64(b.N)*size), "µs/row")
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkQuery asks what screens ask, warm, of 30 days of traffic, of which retention has kept all rows.
func BenchmarkQuery(b *testing.B) {
	s := open(b, b.TempDir())
	count := benchRows(b)
	g := newRows(count)
	s.now = g.End
	s.config.retention = (benchDays + 2) * 24 * time.Hour
	began := time.Now()
	var storing, used time.Duration
	for done := 0; done < count; done += wire.MaxBatchRecords {
		batch := benchBatch(b, g, wire.MaxBatchRecords)
		at, before := time.Now(), processorTime(b)
		apply(b, s, batch)
		storing, used = storing+time.Since(at), used+processorTime(b)-before
		if err := s.round(b.Context(), func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d rows of %.1f days in %v; while storing %.0f rows/s, %.1f µs of processor time a row", count,
		g.End().Sub(time.Unix(0, start)).Hours()/24, time.Since(began).Round(time.Second), float64(count)/storing.Seconds(),
		float64(used.Microseconds())/float64(count))
	if err := s.writer.conn.script("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(s.path)
	if err != nil {
		b.Fatal(err)
	}
	flat, sample := flatBytes(b, s)
	b.Logf("%.1f bytes per row, roll-ups and indexes included; %.1f in the one table of 1.0.3, of the last %d rows",
		float64(info.Size())/float64(count), flat, sample)
	for _, ask := range screens(g.End().UnixNano()) {
		b.Run(ask.name, func(b *testing.B) {
			before := processorTime(b)
			for range b.N {
				if err := s.Query(b.Context(), ask.query, func(*wire.QueryPage) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/query")
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N)/1000, "cpu-ms/query")
		})
	}
}

// flatBytes is what a row takes in the table of picosnitch 1.0.3, which has no index, and how many rows say so.
func flatBytes(b *testing.B, s *Store) (perRow float64, sample int64) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "flat.db")
	db := reader(b, s, "mode=rw")
	db.SetMaxOpenConns(1) // for one connection a file is attached
	const columns = `contime, send, recv, exe, name, cmdline, sha256, pexe, pname, pcmdline, psha256, uid, lport, rport, laddr,
raddr, domain`
	if _, err := db.Exec("ATTACH ? AS flat; CREATE TABLE flat.connections ("+columns+")", path); err != nil {
		b.Fatal(err)
	}
	done, err := db.Exec("INSERT INTO flat.connections SELECT " + columns +
		" FROM main.connections WHERE id > (SELECT max(id) - 100000 FROM flows)")
	if err != nil {
		b.Fatal(err)
	}
	if sample, err = done.RowsAffected(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size()) / float64(sample), sample
}

// screen is a question that an interface asks.
type screen struct {
	name  string
	query *wire.Query
}

func screens(end int64) []screen {
	most := []*wire.Order{{Column: "received", Descending: true}}
	month := end - benchDays*day
	first := equal("exe", rows.Executable(0))
	list := []screen{
		{"OverviewLastDay", &wire.Query{By: []string{"exe"}, Start: end - day, End: end, Order: most, Limit: 20, Others: true, Totals: true}},
		{"SeriesOf300HoursOfOneExecutable", &wire.Query{Bucket: hour, Where: first, Start: end - 300*hour, End: end}},
		{"SeriesOf300MinutesOfOneExecutable", &wire.Query{Bucket: 60 * second, Where: first, Start: end - 5*hour, End: end}},
		{"DistinctDomains", &wire.Query{By: []string{"domain"}, Start: month, End: end, Order: []*wire.Order{{Column: "rows", Descending: true}}, Limit: 1000}},
		{"MixedDomainsOfOneExecutable30Days", &wire.Query{By: []string{"domain"}, Where: first, Start: month, End: end, Order: most, Limit: 20}},
		{"ScanCommandsLastDay", &wire.Query{By: []string{"cmdline"}, Start: end - day, End: end, Order: most, Limit: 20}},
		{"ScanSubstringLastDay", &wire.Query{By: []string{"exe"}, Where: compare("cmdline", wire.Compare_SUBSTRING, "value 12"), Start: end - day, End: end, Order: most, Limit: 20}},
		{"ScanCommands30Days", &wire.Query{By: []string{"cmdline"}, Start: month, End: end, Order: most, Limit: 20}},
	}
	for _, column := range []string{"exe", "name", "uid", "raddr", "domain", "site", "rport", "unit", "protocol", "sha256", "pexe"} {
		list = append(list, screen{"Month/" + column, &wire.Query{By: []string{column}, Start: month, End: end, Order: most, Limit: 50, Others: true}})
	}
	return list
}
