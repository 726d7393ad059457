package store

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// BenchmarkApply stores batches of 2,000 flows. rows/s counts committed rows, fsync included; µs/row is the processor time,
// which other programs disturb less.
func BenchmarkApply(b *testing.B) {
	s := open(b, b.TempDir())
	g := newGenerator(1)
	const size = 2000
	var used time.Duration
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		batch := g.batch(size)
		before := processorTime(b)
		b.StartTimer()
		apply(b, s, batch)
		b.StopTimer()
		used += processorTime(b) - before
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(used.Microseconds())/(float64(b.N)*size), "µs/row")
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

// BenchmarkQuery asks what a first screen asks, of 400,000 flows in 200 windows.
func BenchmarkQuery(b *testing.B) {
	s := open(b, b.TempDir())
	g := newGenerator(1)
	for range 200 {
		apply(b, s, g.batch(2000))
	}
	info, err := os.Stat(s.path)
	if err != nil {
		b.Fatal(err)
	}
	hour := start + int64(200*10*time.Second) - int64(10*time.Minute)
	for name, q := range map[string]*wire.Query{
		"executables":        {By: []string{"exe"}},
		"executables10m":     {By: []string{"exe"}, Start: hour},
		"domains":            {By: []string{"domain"}, Order: []*wire.Order{{Column: "received", Descending: true}}, Limit: 20},
		"commands":           {By: []string{"cmdline"}},
		"series":             {By: []string{"name"}, Bucket: int64(time.Minute), Where: equal("exe", "/usr/lib/programs/bin/program-0")},
		"substringAndSubnet": {By: []string{"exe"}, Where: all(compare("cmdline", wire.Compare_SUBSTRING, "host-1"), compare("raddr", wire.Compare_SUBNET, "93.1.0.0/20"))},
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if err := s.Query(b.Context(), q, func(*wire.QueryPage) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(info.Size())/400_000, "B/row")
		})
	}
}
