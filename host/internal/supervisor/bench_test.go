package supervisor

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// stored is a journal with a cursor for the plugin that is started over it.
func stored(b *testing.B) (*journal.Journal, *journal.Cursor, *rig) {
	b.Helper()
	needRoot(b)
	j, err := journal.Open(journal.Options{Dir: b.TempDir(), HostID: [16]byte{1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = j.Close() }) // of a benchmark
	cursor, err := j.Cursor("bench")
	if err != nil {
		b.Fatal(err)
	}
	r := runWith(b, slot(69), func(o *Options) {
		o.Epoch, o.Jitter = j.Epoch(), func() float64 { return 0 }
		o.Feed = func(string) (Feed, error) { return cursor, nil }
	}, Spec{Name: "bench", Owner: someone})
	r.awaitState(StateRunning)
	return j, cursor, r
}

func benchFlows(n int) []*wire.Record {
	process := &wire.Process{
		Name: &wire.Text{Value: []byte("curl")}, CommandLine: &wire.Text{Value: bytes.Repeat([]byte("word "), 12)},
		Executable: &wire.Executable{Path: &wire.Text{Value: []byte("/usr/bin/curl")}, Sha256: make([]byte, 32)},
	}
	records := make([]*wire.Record, n)
	for i := range records {
		records[i] = &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{
			Window: &wire.Window{Start: 1700000000e9, End: 1700000010e9}, Sent: uint64(i), Received: 1234,
			Local: &wire.Endpoint{Ip: []byte{10, 0, 0, 1}, Port: 40000}, Remote: &wire.Endpoint{Ip: []byte{192, 0, 2, 1}, Port: 443},
			Process: process, Parent: process,
		}}}
	}
	return records
}

func (r *rig) awaitEmpty(cursor *journal.Cursor) {
	r.t.Helper()
	r.await("everything acknowledged", func() bool { return cursor.Lag() == 0 })
}

// BenchmarkRecordsToASink is the way of a record from Append through the journal on disk to the acknowledgement of a
// sandboxed sink that only notes what it got, in windows of 2,000 flows.
func BenchmarkRecordsToASink(b *testing.B) {
	j, cursor, r := stored(b)
	records := benchFlows(2000)
	windows, begun := 0, time.Now()
	for b.Loop() {
		if _, _, err := j.Append(records); err != nil {
			b.Fatal(err)
		}
		windows++
	}
	r.awaitEmpty(cursor)
	b.ReportMetric(float64(windows*len(records))/time.Since(begun).Seconds(), "records/s")
}

// BenchmarkKillToFirstBatch is from the kill of a sink to the first batch that the next incarnation acknowledges, the
// shortest back-off included.
func BenchmarkKillToFirstBatch(b *testing.B) {
	j, cursor, r := stored(b)
	records := benchFlows(20)
	for b.Loop() {
		pid := r.awaitState(StateRunning).GetPid()
		if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		if _, _, err := j.Append(records); err != nil {
			b.Fatal(err)
		}
		if err := r.Restart("bench"); err != nil { // else a crash loop would be measured
			b.Fatal(err)
		}
		r.awaitEmpty(cursor)
	}
}
