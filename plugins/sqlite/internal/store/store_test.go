package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// start is when the windows of tests begin: 2026-11-21 12:00:00 UTC.
const start = int64(1795262400) * int64(time.Second)

// open configures a store in a directory; it is drained when the test ends.
func open(t testing.TB, directory string) *Store {
	t.Helper()
	s := New()
	settings := sdk.Settings{Directory: directory, Config: []byte(`{"retention_days": 0}`), HostID: [16]byte{1}}
	if err := s.Configure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Drain(context.Background()); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return s
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

// batch makes a sealed batch of records, numbered from first.
func batch(epoch byte, first uint64, records ...*wire.Record) *sdk.Batch {
	b := &wire.Batch{HostId: append([]byte{1}, make([]byte, 15)...), Epoch: append([]byte{epoch}, make([]byte, 15)...),
		First: first, Last: first + uint64(len(records)) - 1, Records: records}
	for i, r := range records {
		r.Sequence = first + uint64(i)
	}
	sdk.Seal(b, sdk.Hash{})
	return &sdk.Batch{Batch: b, Epoch: sdk.Epoch{epoch}}
}

func apply(t testing.TB, s *Store, batches ...*sdk.Batch) {
	t.Helper()
	for _, b := range batches {
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatalf("apply %d..%d: %v", b.First, b.Last, err)
		}
	}
}

// reader opens the store's file as another program would.
func reader(t testing.TB, s *Store, parameters string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(connector{s.driver, dsn(s.path, parameters)})
	t.Cleanup(func() { db.Close() })
	return db
}

// value reads one value as text.
func value(t testing.TB, s *Store, text string, args ...any) string {
	t.Helper()
	var v any
	if err := s.readers.Load().QueryRowContext(t.Context(), text, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return fmt.Sprint(v)
}

func wantValue(t testing.TB, s *Store, want, text string, args ...any) {
	t.Helper()
	if got := value(t, s, text, args...); got != want {
		t.Errorf("%s: got %s, want %s", text, got, want)
	}
}

// generator makes the traffic of decision 33: 400 executables, 3,000 command lines, 8,000 addresses, Zipf 1.1, and 70 % of
// a window's flows as before.
type generator struct {
	random                        *rand.Rand
	commands, addresses, programs *rand.Zipf
	last                          []*wire.Flow
	sequence                      uint64
	window                        int64
}

func newGenerator(seed uint64) *generator {
	r := rand.New(rand.NewPCG(seed, 1))
	return &generator{random: r, commands: rand.NewZipf(r, 1.1, 1, 2999), addresses: rand.NewZipf(r, 1.1, 1, 7999),
		programs: rand.NewZipf(r, 1.1, 1, 399)}
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
	begin := start + g.window*int64(10*time.Second)
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
