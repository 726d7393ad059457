package record

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestFlooderIsFoldedAndTheQuietStayExact(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Rows = 80
	flooder := identity.Lineage{Process: process(1, 1000, "/tmp/f", "f", "f")}
	quiet := identity.Lineage{Process: process(2, 1001, "/bin/q", "q", "q")}
	var in []capture.Flow
	for i := range 5000 {
		in = append(in, tcp(1, uint64(i+1), "10.0.0.1:9", fmt.Sprintf("10.1.%d.%d:53", i/250, i%250), uint64(i), 1))
	}
	for i := range 10 {
		in = append(in, tcp(2, uint64(9000+i), "10.0.0.1:7", fmt.Sprintf("192.0.2.%d:443", i), 1, 1))
	}
	h := newHost(t, o)
	got := h.Window(window(in...), whoOf(flooder, quiet))
	rows := flows(got)
	if len(rows) != 20 {
		t.Fatalf("%d rows: %q", len(rows), lineTexts(got))
	}
	folded := rows[0] // sorts first: has no address
	if want := fmt.Sprintf("1 -:-1>-:-1 %d/%d folded %d", 4991*4990/2, 4991, 4991); line(folded) != want {
		t.Errorf("got %s, want %s", line(folded), want)
	}
	if folded.Process != flooder.Process || folded.Protocol != 6 || folded.Direction != 0 {
		t.Errorf("folded row: %v", folded)
	}
	for _, f := range rows[10:] {
		if f.Process.Id.Tgid != 2 || f.Peer != wire.Peer_PEER_EXACT {
			t.Errorf("quiet row: %s", line(f))
		}
	}
	if h.Counters().FoldedRows != 4990 {
		t.Errorf("counters: %+v", h.Counters())
	}
}

func TestFoldedRowKeepsItsParentWhoseHashComesMeanwhile(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Rows = 8
	parent := func() *wire.Process { return process(9, 1000, "/bin/p", "p", "p") }
	pending, known, flooder := parent(), hashed(parent(), 1), process(1, 1000, "/tmp/f", "f", "f")
	var in []capture.Flow
	for i := range 100 {
		in = append(in, tcp(1, uint64(i+1), "10.0.0.1:9", fmt.Sprintf("10.1.1.%d:53", i), 1, 1))
	}
	rows := flows(newHost(t, o).Window(window(in...), func(f *capture.Flow) identity.Lineage {
		if f.Socket <= 50 {
			return identity.Lineage{Process: flooder, Parent: pending}
		}
		return identity.Lineage{Process: flooder, Parent: known}
	}))
	if len(rows) != 1 || rows[0].Sent != 100 || rows[0].Parent.GetId().GetTgid() != 9 {
		t.Errorf("rows: %v", rows)
	}
}

func TestManyProcessesOfOneUserShareItsRows(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Rows = 80
	var in []capture.Flow
	for i := range 500 {
		f := tcp(uint32(i+1), 1, "10.0.0.1:9", "10.0.0.2:53", uint64(i), 0)
		f.UID = 1000
		in = append(in, f)
	}
	rows := flows(newHost(t, o).Window(window(in...), whoOf()))
	if len(rows) != 10 {
		t.Fatalf("%d rows", len(rows))
	}
	rest := rows[0]
	if rest.Process.Ruid != 1000 || rest.Process.Id != nil || rest.Sent != 491*490/2 || rest.FoldedPeers != 1 {
		t.Errorf("rest: %v", rest)
	}
}

func TestManyUsersStayWithinTheWindow(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Rows = 80
	var in []capture.Flow
	for i := range 500 {
		f := tcp(uint32(i+1), 1, "10.0.0.1:9", "10.0.0.2:53", 1, 0)
		f.UID = uint32(i)
		in = append(in, f)
	}
	rows := flows(newHost(t, o).Window(window(in...), whoOf()))
	if len(rows) != 80 {
		t.Fatalf("%d rows", len(rows))
	}
	if rest := rows[0]; rest.Process.Ruid != ^uint32(0) || rest.Sent != 421 {
		t.Errorf("rest: %v", rest)
	}
}

func TestRowsThatCaptureFoldedAddUp(t *testing.T) {
	t.Parallel()
	o := everything()
	o.Ports = false
	f := capture.Flow{Process: capture.Key{Tgid: 1}, Protocol: 17, Peer: wire.Peer_PEER_FOLDED, FoldedPeers: 3, Sent: 1, Socket: 1}
	g := f
	g.FoldedPeers, g.Socket = 4, 2
	if diff := cmp.Diff([]string{"1 -:-1>-:-1 2/0 folded 7"}, lineTexts(newHost(t, o).Window(window(f, g), whoOf()))); diff != "" {
		t.Error(diff)
	}
}

func TestLevelSharesWhatSmallOnesLeave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sizes        []int
		budget, want int
	}{
		{nil, 5, 0}, {[]int{3}, 5, 3}, {[]int{9}, 5, 5}, {[]int{1, 9, 9}, 9, 4}, {[]int{2, 2, 2}, 2, 0}, {[]int{1, 2, 3}, 6, 3},
	} {
		if got := level(c.sizes, c.budget); got != c.want {
			t.Errorf("level(%v, %d) = %d, want %d", c.sizes, c.budget, got, c.want)
		}
	}
}
