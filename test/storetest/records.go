// Package storetest has what the tests of every store of this tree need: made-up records, the traffic of a machine, and
// questions with the answers that every store has to give.
package storetest

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Start is when the windows of tests begin: 2026-11-21 12:00:00 UTC.
const Start = int64(1795262400) * int64(time.Second)

// Process is a made-up process instance; n tells it from others.
func Process(path, command string, n int) *wire.Process {
	return &wire.Process{
		Id:          &wire.ProcessId{BootId: make([]byte, 16), Tgid: uint32(1000 + n), StartBoot: int64(n), ExecId: 1},
		Name:        &wire.Text{Value: []byte(filepath.Base(path)[:min(15, len(filepath.Base(path)))])},
		CommandLine: &wire.Text{Value: []byte(command)},
		Executable: &wire.Executable{Path: &wire.Text{Value: []byte(path)}, Superblock: 1, Device: 2, Inode: uint64(n) + 10,
			Ctime: 5, Size: 100, Sha256: make([]byte, 32), HashStatus: wire.HashStatus_HASH_OK},
		Ruid: 1000, Euid: 1000, Loginuid: 1000, Session: 1,
	}
}

// Flow is a made-up flow of the window that begins seconds after start and lasts ten.
func Flow(seconds int64, p *wire.Process, sent, received uint64, remote string, domain string) *wire.Record {
	begin := Start + seconds*int64(time.Second)
	address := netip.MustParseAddr(remote)
	return &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{
		Window: &wire.Window{Start: begin, End: begin + 10*int64(time.Second), ZoneOffset: 3600},
		Sent:   sent, Received: received, Sends: 1, Receives: 2, Connects: 1,
		Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_OPEN, Layer: wire.Layer_LAYER_SOCKET,
		Family: 2, Protocol: 6, Peer: wire.Peer_PEER_EXACT,
		Local:   &wire.Endpoint{Ip: []byte{10, 0, 0, 2}, Port: 40000},
		Remote:  &wire.Endpoint{Ip: address.AsSlice(), Port: 443},
		Domain:  &wire.Domain{Name: &wire.Text{Value: []byte(domain)}, Source: wire.NameSource_NAME_SOURCE_SNI},
		Process: p, Parent: Process("/usr/bin/bash", "bash", 1), Attribution: wire.Attribution_ATTRIBUTION_KERNEL,
	}}}
}

// Batch makes a sealed batch of records of the host 1, numbered from first.
func Batch(epoch byte, first uint64, records ...*wire.Record) *sdk.Batch {
	return BatchOf(1, epoch, first, records...)
}

// BatchOf is Batch for another host.
func BatchOf(host, epoch byte, first uint64, records ...*wire.Record) *sdk.Batch {
	b := &wire.Batch{HostId: append([]byte{host}, make([]byte, 15)...), Epoch: append([]byte{epoch}, make([]byte, 15)...),
		First: first, Last: first + uint64(len(records)) - 1, Records: records}
	for i, r := range records {
		r.Sequence = first + uint64(i)
	}
	sdk.Seal(b, sdk.Hash{})
	return &sdk.Batch{Batch: b, Epoch: sdk.Epoch{epoch}}
}

// Apply stores batches.
func Apply(t testing.TB, s sdk.Sink, batches ...*sdk.Batch) {
	t.Helper()
	for _, b := range batches {
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatalf("apply %d..%d: %v", b.First, b.Last, err)
		}
	}
}
