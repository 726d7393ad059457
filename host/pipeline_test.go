package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/name"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// recording builds a file of events, as capture.Recorder writes it.
type recording struct {
	t   *testing.T
	out bytes.Buffer
}

func (r *recording) add(kind string, event any) {
	r.t.Helper()
	if err := json.NewEncoder(&r.out).Encode(map[string]any{kind: event}); err != nil {
		r.t.Fatal(err)
	}
}

// executable writes a file and says how the kernel would name it.
func executable(t *testing.T, content string) (string, capture.FileKey) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return path, capture.FileKey{Superblock: 1, Device: st.Dev, Inode: st.Ino, Ctime: st.Ctim.Nano(), Size: uint64(st.Size)}
}

func image(key capture.Key, path string, file capture.FileKey, arguments string) *capture.Process {
	return &capture.Process{
		Key: key, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, Began: 1 << 60, Name: "program",
		Path:      capture.Text{Value: capture.Bytes(path), Length: len(path)},
		Arguments: capture.Text{Value: capture.Bytes(arguments), Length: len(arguments)}, File: file, UID: 1000,
	}
}

// replay runs a recording through every stage after capture and returns what the journal then holds.
func replay(t *testing.T, r *recording) []*wire.Record {
	t.Helper()
	return newMachine(t).run(r, 10*time.Second, (*pipeline).close)
}

// machine is what outlives a host.
type machine struct {
	t         *testing.T
	directory string
}

func newMachine(t *testing.T) machine { return machine{t: t, directory: t.TempDir()} }

// run is one host: it waits so long for hashes, and ends as told. It returns the records that are new in the journal.
func (m machine) run(r *recording, hold time.Duration, end func(*pipeline) error) []*wire.Record {
	t := m.t
	t.Helper()
	files, err := record.NewDirectory(filepath.Join(m.directory, "files"))
	if err != nil {
		t.Fatal(err)
	}
	known, err := record.NewDirectory(filepath.Join(m.directory, "known"))
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := record.New(record.Options{Addresses: true, Commands: true, Ports: true}, files, known, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Options{Dir: filepath.Join(m.directory, "state"), HostID: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	table := identity.New(identity.Options{Now: capture.Now})
	p := &pipeline{
		source: capture.NewReplay(&r.out), table: table, names: name.New(name.Options{}), recorder: newScribe(recorder), journal: j,
		log: slog.New(slog.DiscardHandler), hold: hold, now: time.Now,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cursor, err := j.Cursor("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := end(p); err != nil {
		t.Fatal(err)
	}
	if err := table.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return drainJournal(t, cursor)
}

// killed is the end of a host that has no time to say anything.
func killed(*pipeline) error { return nil }

func drainJournal(t *testing.T, cursor *journal.Cursor) []*wire.Record {
	t.Helper()
	var records []*wire.Record
	for cursor.Lag() > 0 {
		b, err := cursor.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var batch wire.Batch
		if err := proto.Unmarshal(b.Raw, &batch); err != nil {
			t.Fatal(err)
		}
		records = append(records, batch.Records...)
		if err := cursor.Ack(watermark(b)); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

func TestRecordedEventsBecomeRows(t *testing.T) {
	t.Parallel()
	shellPath, shellFile := executable(t, "shell")
	curlPath, curlFile := executable(t, "curl")
	shell, curl := capture.Key{Tgid: 10, ExecID: 1, Start: 10}, capture.Key{Tgid: 11, ExecID: 2, Start: 11}
	r := &recording{t: t}
	r.add("process", image(shell, shellPath, shellFile, "sh"))
	child := image(curl, curlPath, curlFile, "curl\x00http://user:secret@example.org/")
	child.Parent = shell
	r.add("process", child)
	flow := capture.Flow{
		Process: curl, Socket: 5, Layer: wire.Layer_LAYER_SOCKET, Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP,
		Local: netip.MustParseAddrPort("192.0.2.1:40000"), Remote: netip.MustParseAddrPort("198.51.100.7:443"),
		Peer: wire.Peer_PEER_EXACT, Sent: 100, Received: 2000, Sends: 1, Receives: 2, UID: 1000, Name: "program",
	}
	r.add("window", &capture.Window{Generation: 1, Start: capture.Moment{UTC: 1, Boot: 1}, End: capture.Moment{UTC: 2, Boot: 2}, Flows: []capture.Flow{flow}})
	r.add("exit", &capture.Exit{Key: curl, Time: 3})
	r.add("window", &capture.Window{Generation: 2, Start: capture.Moment{UTC: 4, Boot: 4}, End: capture.Moment{UTC: 5, Boot: 5}, Flows: []capture.Flow{flow}})

	var sent, received uint64
	for _, rec := range replay(t, r) {
		f := rec.GetFlow()
		if f == nil {
			continue
		}
		sent, received = sent+f.GetSent(), received+f.GetReceived()
		want := sha256.Sum256([]byte("curl"))
		if got := f.GetProcess().GetExecutable().GetSha256(); !bytes.Equal(got, want[:]) {
			t.Errorf("sha256 %x, want %x", got, want)
		}
		want = sha256.Sum256([]byte("shell"))
		if got := f.GetParent().GetExecutable().GetSha256(); !bytes.Equal(got, want[:]) {
			t.Errorf("parent's sha256 %x, want %x", got, want)
		}
		if line := f.GetProcess().GetCommandLine().GetValue(); bytes.Contains(line, []byte("secret")) || !bytes.HasPrefix(line, []byte("curl\x00")) {
			t.Errorf("command line %q", line)
		}
	}
	if sent != 200 || received != 4000 {
		t.Errorf("sent %d, received %d; want 200, 4000", sent, received)
	}
}

func TestWindowsOfUnknownProcessesAreKept(t *testing.T) {
	t.Parallel()
	r := &recording{t: t}
	r.add("window", &capture.Window{Generation: 1, Start: capture.Moment{UTC: 1, Boot: 1}, End: capture.Moment{UTC: 2, Boot: 2}, Flows: []capture.Flow{{
		Process: capture.Key{Tgid: 99, Start: 99}, Name: "ghost", UID: 7, Layer: wire.Layer_LAYER_SOCKET, Sent: 5, Sends: 1, Peer: wire.Peer_PEER_FOLDED,
	}}})
	for _, rec := range replay(t, r) {
		if f := rec.GetFlow(); f != nil && string(f.GetProcess().GetName().GetValue()) == "ghost" && f.GetSent() == 5 && f.GetProcess().GetRuid() == 7 {
			return
		}
	}
	t.Error("no row for a process whose exec was lost")
}

func TestHashThatAKilledHostOwedIsFoundByTheNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		after  func(t *testing.T, path string)
		status wire.HashStatus
	}{
		{"the file is still there", func(*testing.T, string) {}, wire.HashStatus_HASH_OK},
		{"the file is gone", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, wire.HashStatus_HASH_GONE},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			content := strings.Repeat("large", 20<<20) // takes longer than to make a row
			path, file := executable(t, content)
			key := capture.Key{Tgid: 1 << 30, ExecID: 1, Start: 10} // no such process
			first := &recording{t: t}
			first.add("process", image(key, path, file, "large"))
			flow := capture.Flow{Process: key, Layer: wire.Layer_LAYER_SOCKET, Sent: 1, Sends: 1, Peer: wire.Peer_PEER_FOLDED}
			first.add("window", &capture.Window{Generation: 1, End: capture.Moment{UTC: 2, Boot: 2}, Flows: []capture.Flow{flow}})
			m := newMachine(t)
			rows := m.run(first, time.Nanosecond, killed)
			if len(rows) == 0 || rows[0].GetFlow().GetProcess().GetExecutable().GetHashStatus() != wire.HashStatus_HASH_PENDING {
				t.Fatalf("the first host's records: %v", rows)
			}
			c.after(t, path)
			got := m.resolved(t)
			if got.GetFirst() != rows[0].Sequence || got.GetLast() != rows[0].Sequence || got.GetHashStatus() != c.status {
				t.Errorf("resolved %v, want record %d with %v", got, rows[0].Sequence, c.status)
			}
			if want := sha256.Sum256([]byte(content)); c.status == wire.HashStatus_HASH_OK && !bytes.Equal(got.GetSha256(), want[:]) {
				t.Errorf("sha256 %x, want %x", got.GetSha256(), want)
			}
			for _, r := range m.run(empty(t), 0, (*pipeline).close) {
				if r.GetHashResolved() != nil {
					t.Errorf("told twice: %v", r)
				}
			}
		})
	}
}

// resolved starts hosts until one has told a hash that was owed.
func (m machine) resolved(t *testing.T) *wire.HashResolved {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		for _, r := range m.run(empty(t), 0, closedWhenHashed) {
			if h := r.GetHashResolved(); h != nil {
				return h
			}
		}
	}
	t.Fatal("the hash was never told")
	return nil
}

// closedWhenHashed stops a host in good order once nothing is read any more, or after a while.
func closedWhenHashed(p *pipeline) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c := p.table.Counters(); c.Hashing == 0 && c.Hashed+c.NotHashed > 0 {
			break
		}
	}
	return p.close()
}

// empty is a window in which nothing happened.
func empty(t *testing.T) *recording {
	r := &recording{t: t}
	r.add("window", &capture.Window{Generation: 1, End: capture.Moment{UTC: 2, Boot: 2}})
	return r
}
