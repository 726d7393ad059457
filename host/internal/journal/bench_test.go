package journal

import (
	"fmt"
	"testing"
	"time"

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
	j, err := Open(b.TempDir(), testHost, time.Now)
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
