package store

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/servertest"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// start is when the windows of tests begin: 2026-11-21 12:00:00 UTC.
const start = int64(1795262400) * int64(time.Second)

// TestStore runs on a server of each kind: first what can share one, at the same time, then what kills it.
func TestStore(t *testing.T) {
	t.Parallel()
	for kind, begin := range map[string]func(testing.TB) *servertest.Server{
		"PostgreSQL": servertest.PostgreSQL, "MariaDB": servertest.MariaDB,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := begin(t)
			t.Run("cases", func(t *testing.T) {
				for _, cases := range []map[string]func(*testing.T, *servertest.Server){applyCases(), queryCases()} {
					for name, run := range cases {
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							run(t, server)
						})
					}
				}
			})
			t.Run("connections that the server ended are replaced", func(t *testing.T) { connectionsEnded(t, server) })
			t.Run("a full disk is waited for", func(t *testing.T) { fullDisk(t, server) })
			t.Run("nothing is lost or stored twice when the server is killed", func(t *testing.T) { serverKilled(t, server) })
			t.Run("a server that is away at start is waited for", func(t *testing.T) { serverAway(t, server) })
		})
	}
}

// tableName is a name that no other test has.
func tableName(t testing.TB) string {
	_, name, _ := strings.Cut(t.Name(), "/cases/")
	return strings.ToLower(strings.NewReplacer(" ", "_", "/", "_", "-", "_").Replace(name))
}

// ours are settings for the administrator and a table of the test's own.
func ours(t testing.TB, s *servertest.Server) string {
	return s.SocketConfig(fmt.Sprintf(`, "table_name": %q`, tableName(t)))
}

// open configures a store; it is drained when the test ends.
func open(t testing.TB, config string) *Store {
	t.Helper()
	s := New()
	if err := s.Configure(t.Context(), sdk.Settings{Config: []byte(config), HostID: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return s
}

// healthy fails the test if the store says that something is wrong.
func healthy(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Health(t.Context()); err != nil {
		t.Fatalf("health: %v", err)
	}
}

// process is a made-up process instance; n tells it from others.
func process(path, command string, n int) *wire.Process {
	return &wire.Process{
		Id:          &wire.ProcessId{BootId: make([]byte, 16), Tgid: uint32(1000 + n), StartBoot: int64(n), ExecId: 1},
		Name:        &wire.Text{Value: []byte(filepath.Base(path)[:min(15, len(filepath.Base(path)))])},
		CommandLine: &wire.Text{Value: []byte(command)},
		Executable: &wire.Executable{Path: &wire.Text{Value: []byte(path)}, Superblock: 1, Device: 2, Inode: uint64(n) + 10,
			Ctime: 5, Size: 100, Sha256: make([]byte, 32), HashStatus: wire.HashStatus_HASH_OK},
		Ruid: 1000, Euid: 1000, Loginuid: 1000, Session: 1,
	}
}

// flow is a made-up flow of the window that begins seconds after start and lasts ten.
func flow(seconds int64, p *wire.Process, sent, received uint64, remote string, domain string) *wire.Record {
	begin := start + seconds*int64(time.Second)
	address := netip.MustParseAddr(remote)
	return &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{
		Window: &wire.Window{Start: begin, End: begin + 10*int64(time.Second), ZoneOffset: 3600},
		Sent:   sent, Received: received, Sends: 1, Receives: 2, Connects: 1,
		Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_OPEN, Layer: wire.Layer_LAYER_SOCKET,
		Family: 2, Protocol: 6, Peer: wire.Peer_PEER_EXACT,
		Local:   &wire.Endpoint{Ip: []byte{10, 0, 0, 2}, Port: 40000},
		Remote:  &wire.Endpoint{Ip: address.AsSlice(), Port: 443},
		Domain:  &wire.Domain{Name: &wire.Text{Value: []byte(domain)}, Source: wire.NameSource_NAME_SOURCE_SNI},
		Process: p, Parent: process("/usr/bin/bash", "bash", 1), Attribution: wire.Attribution_ATTRIBUTION_KERNEL,
	}}}
}

// batchOf makes a sealed batch of records of a host, numbered from first.
func batchOf(host, epoch byte, first uint64, records ...*wire.Record) *sdk.Batch {
	b := &wire.Batch{HostId: append([]byte{host}, make([]byte, 15)...), Epoch: append([]byte{epoch}, make([]byte, 15)...),
		First: first, Last: first + uint64(len(records)) - 1, Records: records}
	for i, r := range records {
		r.Sequence = first + uint64(i)
	}
	sdk.Seal(b, sdk.Hash{})
	return &sdk.Batch{Batch: b, Epoch: sdk.Epoch{epoch}}
}

// batch is a batch of the first host.
func batch(epoch byte, first uint64, records ...*wire.Record) *sdk.Batch {
	return batchOf(1, epoch, first, records...)
}

func apply(t testing.TB, s *Store, batches ...*sdk.Batch) {
	t.Helper()
	for _, b := range batches {
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatalf("apply %d..%d: %v", b.First, b.Last, err)
		}
	}
}
