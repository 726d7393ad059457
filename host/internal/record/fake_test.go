package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

var errDisk = errors.New("no space left on device")

// disk is a Files in memory.
type disk struct {
	mu     sync.Mutex
	files  map[string][]byte
	broken map[string]bool // names that cannot be read or written
	unread map[string]bool // names that can be written only
	writes int
}

func newDisk() *disk {
	return &disk{files: map[string][]byte{}, broken: map[string]bool{}, unread: map[string]bool{}}
}

func (d *disk) ReadFile(name string, limit int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, ok := d.files[name]
	switch {
	case d.broken[name], d.unread[name]:
		return nil, fmt.Errorf("read %s: %w", name, errDisk)
	case !ok:
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(data), nil
}

func (d *disk) WriteFile(name string, data []byte, _ fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken[name] {
		return fmt.Errorf("write %s: %w", name, errDisk)
	}
	d.writes++
	d.files[name] = bytes.Clone(data)
	return nil
}

func (d *disk) Append(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken[name] {
		return fmt.Errorf("append to %s: %w", name, errDisk)
	}
	d.files[name] = append(d.files[name], data...)
	return nil
}

func (d *disk) breakFile(name string, broken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken[name] = broken
}

func (d *disk) text(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return string(d.files[name])
}

// host is a Recorder with what it touches.
type host struct {
	*Recorder
	t           *testing.T
	home, state *disk
	now         time.Time
	options     Options
}

func everything() Options {
	return Options{Addresses: true, Commands: true, Ports: true, EveryExe: true}
}

// newHost starts on empty directories and has already learned.
func newHost(t *testing.T, o Options) *host {
	h := &host{t: t, home: newDisk(), state: newDisk(), options: o}
	h.now = time.Date(2026, 11, 21, 17, 26, 21, 0, time.FixedZone("CET", 3600))
	h.state.files[knownFile] = encodeJSON(newKnown(1).state(nil))
	h.start()
	return h
}

func (h *host) start() {
	h.t.Helper()
	r, err := New(h.options, h.home, h.state, func() time.Time { return h.now })
	if err != nil {
		h.t.Fatal(err)
	}
	h.Recorder = r
}

func (h *host) flush() {
	h.t.Helper()
	if err := h.Flush(); err != nil {
		h.t.Fatal(err)
	}
}

// meet runs a window in which these processes made one connection each, and gives its notices.
func (h *host) meet(lineages ...identity.Lineage) []string {
	w := window()
	for i := range lineages {
		w.Flows = append(w.Flows, capture.Flow{Process: capture.Key{Tgid: uint32(i + 1)}, Layer: wire.Layer_LAYER_SOCKET})
	}
	return notes(h.Window(w, func(f *capture.Flow) identity.Lineage { return lineages[f.Process.Tgid-1] }))
}

func notes(records []*wire.Record) (out []string) {
	for _, r := range records {
		if n := r.GetNotice(); n != nil {
			line := strings.TrimPrefix(n.Kind.String(), "NOTICE_") + " " + string(n.Text.Value)
			if n.Parent {
				line += " (parent)"
			}
			out = append(out, line)
		}
	}
	return out
}

func flows(records []*wire.Record) (out []*wire.Flow) {
	for _, r := range records {
		if f := r.GetFlow(); f != nil {
			out = append(out, f)
		}
	}
	return out
}

func window(flows ...capture.Flow) *capture.Window {
	return &capture.Window{
		Generation: 1, Flows: flows,
		Start: capture.Moment{UTC: 1_000_000_000, Boot: 100_000_000},
		End:   capture.Moment{UTC: 11_000_000_000, Boot: 10_100_000_000},
	}
}

func process(pid, uid uint32, path, name, command string) *wire.Process {
	return &wire.Process{
		Id: &wire.ProcessId{Tgid: pid, StartBoot: int64(pid) * 10}, Ruid: uid, Euid: uid,
		Name:        &wire.Text{Value: []byte(name)},
		CommandLine: &wire.Text{Value: []byte(command)},
		Executable:  &wire.Executable{Path: &wire.Text{Value: []byte(path)}},
	}
}

func hashed(p *wire.Process, digit byte) *wire.Process {
	p.Executable.Sha256 = bytes.Repeat([]byte{digit}, 32)
	p.Executable.HashStatus = wire.HashStatus_HASH_OK
	return p
}

func scoped(p *wire.Process, scope string) *wire.Process {
	p.Executable.Scope = scope
	return p
}

func tcp(pid uint32, socket uint64, local, remote string, sent, received uint64) capture.Flow {
	return capture.Flow{
		Process: capture.Key{Tgid: pid}, Socket: socket, Layer: wire.Layer_LAYER_SOCKET, Family: 2, Protocol: 6,
		Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote),
		Peer: wire.Peer_PEER_EXACT, Sent: sent, Received: received, Sends: 1, Receives: 1,
		Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_OPEN, NetNS: 4026531840,
	}
}

// line shows a flow as a test reads it best.
func line(f *wire.Flow) string {
	show := func(e *wire.Endpoint) string {
		addr, _ := netip.AddrFromSlice(e.Ip)
		if !addr.IsValid() {
			return fmt.Sprintf("-:%d", e.Port)
		}
		return fmt.Sprintf("%s:%d", addr, e.Port)
	}
	out := fmt.Sprintf("%d %s>%s %d/%d", f.Process.GetId().GetTgid(), show(f.Local), show(f.Remote), f.Sent, f.Received)
	if f.Peer == wire.Peer_PEER_FOLDED {
		out += fmt.Sprintf(" folded %d", f.FoldedPeers)
	}
	if f.Socket != 0 {
		out += fmt.Sprintf(" socket %d", f.Socket)
	}
	return out
}

func lineTexts(records []*wire.Record) (out []string) {
	for _, f := range flows(records) {
		out = append(out, line(f))
	}
	return out
}

// whoOf names processes by pid; others are not known.
func whoOf(list ...identity.Lineage) func(*capture.Flow) identity.Lineage {
	return func(f *capture.Flow) identity.Lineage {
		for _, l := range list {
			if l.Process.Id.Tgid == f.Process.Tgid {
				return l
			}
		}
		return identity.Lineage{}
	}
}
