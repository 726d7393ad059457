package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// flows makes records as one quiet window gives them.
func flows(n int) []*wire.Record {
	process := func(name string) *wire.Process {
		return &wire.Process{
			Id:          &wire.ProcessId{BootId: make([]byte, 16), Tgid: 4711, StartBoot: 123456789, ExecId: 3},
			Name:        &wire.Text{Value: []byte(name)},
			CommandLine: &wire.Text{Value: fmt.Appendf(nil, "%s\x00--silent\x00https://example.org/a/file", name)},
			Executable: &wire.Executable{
				Path: &wire.Text{Value: []byte("/usr/bin/" + name)}, Device: 0x801, Inode: 123456, Ctime: 1700000000e9,
				Size: 250000, Sha256: make([]byte, 32), HashStatus: wire.HashStatus_HASH_OK,
			},
		}
	}
	records := make([]*wire.Record, n)
	for i := range records {
		records[i] = &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{
			Window: &wire.Window{Start: 1700000000e9, End: 1700000010e9}, Sent: 1234, Received: uint64(i),
			Local:   &wire.Endpoint{Ip: []byte{10, 0, 0, 1}, Port: 40000 + int32(i)},
			Remote:  &wire.Endpoint{Ip: []byte{192, 0, 2, byte(i)}, Port: 443},
			Process: process("curl"), Parent: process("bash"), Grandparent: process("sshd"),
		}}}
	}
	return records
}

func BenchmarkAppend20Flows(b *testing.B) {
	j, err := Open(Options{Dir: b.TempDir(), HostID: testHost})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := j.Close(); err != nil {
			b.Error(err)
		}
	}()
	records := flows(20)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := j.Append(records, Mark{"generation", []byte("1")}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(20*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkThroughOneCursor is from Append to the acknowledgement of a sink that needs no time, in windows of 500 flows.
func BenchmarkThroughOneCursor(b *testing.B) {
	j, err := Open(Options{Dir: b.TempDir(), HostID: testHost})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := j.Close(); err != nil {
			b.Error(err)
		}
	}()
	c, err := j.Cursor("a")
	if err != nil {
		b.Fatal(err)
	}
	records := flows(500)
	done := make(chan error, 1)
	n := 0
	b.ReportAllocs()
	go func() { done <- follow(b, c) }()
	for b.Loop() {
		if _, _, err := j.Append(records); err != nil {
			b.Fatal(err)
		}
		n++
	}
	for c.Lag() > 0 {
		time.Sleep(100 * time.Microsecond)
	}
	b.ReportMetric(500*float64(n)/b.Elapsed().Seconds(), "records/s")
	if err := c.Ack(sdk.Watermark{}); err == nil {
		b.Error("acknowledged an epoch that is none")
	}
	select {
	case err := <-done:
		b.Fatal(err)
	default:
	}
}

// follow acknowledges everything until the benchmark ends.
func follow(b *testing.B, c *Cursor) error {
	for {
		batch, err := c.Next(b.Context())
		if err != nil {
			return err
		}
		if err := c.Ack(sdk.Watermark{Epoch: batch.Epoch, Sequence: batch.Last}); err != nil {
			return err
		}
	}
}

// BenchmarkOpenLarge is from Open to the first batch, of a journal of 400 MiB that was not closed.
func BenchmarkOpenLarge(b *testing.B) {
	dir := b.TempDir()
	j, err := Open(Options{Dir: dir, HostID: testHost})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := j.Cursor("a"); err != nil {
		b.Fatal(err)
	}
	for size := int64(0); size < 400<<20; {
		if _, _, err := j.Append(flows(4000)); err != nil {
			b.Fatal(err)
		}
		if size, err = fileSizeOf(dir); err != nil {
			b.Fatal(err)
		}
	}
	unclean := b.TempDir() // a copy of the file is what kill -9 leaves
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unclean, FileName), data, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	for name, dir := range map[string]string{"clean": dir, "unclean": unclean} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				openAndRead(b, dir, name == "unclean")
			}
		})
	}
}

func fileSizeOf(dir string) (int64, error) {
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func openAndRead(b *testing.B, dir string, unclean bool) {
	j, err := Open(Options{Dir: dir, HostID: testHost})
	if err != nil {
		b.Fatal(err)
	}
	c, err := j.Cursor("a")
	if err == nil {
		_, err = c.Next(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if unclean { // the next start is to find it as this one did
		close(j.stop)
		<-j.stopped
		err = j.db.Close()
	} else {
		err = j.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}
