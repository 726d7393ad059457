package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// proofOf is what a store with these batches proves.
func proofOf(t *testing.T, batches ...*wire.BatchEvidence) *proof {
	t.Helper()
	p := newProof("")
	if err := p.take(&wire.EvidencePage{Batches: batches}); err != nil {
		t.Fatal(err)
	}
	return p
}

// runOf is a run of some batches of ten records.
func runOf(epoch string, batches int) []*wire.BatchEvidence {
	list := chain(batches)
	for _, b := range list {
		b.Epoch, b.Previous = []byte(strings.Repeat(epoch, 16)), nil
	}
	return list
}

func TestOnlyWhatMustHaveArrivedIsMissing(t *testing.T) {
	t.Parallel()
	at := func(epoch string, sequence uint64) mark {
		return mark{fed: true, epoch: strings.Repeat(epoch, 16), sequence: sequence}
	}
	both := slices.Concat(runOf("a", 2), runOf("b", 5))
	all := at("b", 50)
	for _, c := range []struct {
		name                string
		ours, theirs, later []*wire.BatchEvidence
		sent, kept          mark
		found               string // in the only finding; "": none
		waiting, awaited    int
	}{
		{name: "the same", ours: both, theirs: both, later: both, sent: all, kept: all},
		{name: "the other one lags", ours: both, theirs: both[:4], later: both, sent: at("b", 20), kept: all, waiting: 3},
		{name: "the other one lags by more than a run", ours: both, theirs: both[:1], later: both, sent: at("a", 10), kept: all, waiting: 6},
		{name: "the other one has got nothing yet", ours: both, later: both, sent: mark{fed: true}, kept: all, waiting: 7},
		{name: "the other one lost its end", ours: both, theirs: both[:6], later: both, sent: all, kept: all, found: "records 41 to 50: x does not have them"},
		{name: "the other one lost what it had before", ours: both, theirs: both[2:4], later: both, sent: at("b", 20), kept: all,
			found: "x has nothing of it", waiting: 3},
		{name: "this one lags", ours: both[:4], theirs: both, later: both[:4], sent: all, kept: at("b", 20), awaited: 3},
		{name: "this one lost its end", ours: both[:6], theirs: both, later: both[:6], sent: all, kept: all, found: "records 41 to 50 are missing here, x has them"},
		{name: "this one lost a run", ours: both[2:], theirs: both, later: both[2:], sent: all, kept: all, found: "all of it is missing here, x has it"},
		{name: "records come meanwhile", ours: both[:4], theirs: both[:6], later: both, sent: all, kept: all},
		{name: "a run comes meanwhile", ours: both[:2], theirs: both[:3], later: both, sent: all, kept: all},
		{name: "nothing is delivered there", ours: both[:2], later: both[:2], found: "x has nothing of it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := &comparison{ours: proofOf(t, c.ours...), theirs: proofOf(t, c.theirs...), later: proofOf(t, c.later...),
				sent: c.sent, kept: c.kept, name: "x"}
			got.compare()
			if got.waiting != c.waiting || got.awaited != c.awaited {
				t.Errorf("%d wait, %d are awaited, want %d and %d", got.waiting, got.awaited, c.waiting, c.awaited)
			}
			if f := got.found.findings; len(f) > 1 || len(f) == 1 && (c.found == "" || !strings.HasSuffix(f[0], c.found)) || len(f) == 0 && c.found != "" {
				t.Errorf("found %q, want %q", f, c.found)
			}
		})
	}
}

func TestWithoutADaemonTheOtherStoreItselfShowsHowFarItIs(t *testing.T) {
	t.Parallel()
	ours := proofOf(t, slices.Concat(runOf("a", 2), runOf("b", 5))...)
	if got := reached(ours.order, proofOf(t, runOf("b", 3)...)); got != (mark{fed: true, epoch: strings.Repeat("b", 16), sequence: 30}) {
		t.Errorf("got %v", got)
	}
	if got := reached(ours.order, proofOf(t, runOf("c", 3)...)); got.fed {
		t.Errorf("of runs that it has nothing of: got %v", got)
	}
}

// withLeaves gives batches the leaves of rows that are all alike, but for one.
func withLeaves(batches []*wire.BatchEvidence, other uint64) []*wire.BatchEvidence {
	for _, b := range batches {
		for sequence := b.GetFirst(); sequence <= b.GetLast(); sequence++ {
			leaf := sdk.Hash{byte(sequence)}
			if sequence == other {
				leaf[1] = 1
			}
			b.Leaves = append(b.Leaves, leaf[:]...)
		}
	}
	return batches
}

func TestTheRowsThatDifferAreNamedWithWhatDiffers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	own := withLeaves(chain(5), 33)
	own[3].State, own[3].Missing = wire.BatchEvidence_ALTERED, []uint64{35}
	host, epoch := "686f7374686f7374686f7374686f7374", "65706f636865706f636865706f636865"
	row := func(send string) string {
		return `{"host_id": "` + host + `", "epoch": "` + epoch + `", "seq": 33, "send": ` + send + `, "exe": "/bin/a\n"}` + "\n"
	}
	a := &archive{
		evidence: map[string][]*wire.BatchEvidence{"": own, "remote": withLeaves(chain(5), 0)},
		rows:     map[string]string{"": row("6"), "remote": strings.Replace(row("5"), "/bin/a", "/bin/b", 1)},
		plugins: []*wire.PluginStatus{{Name: "sqlite", Epoch: []byte("epochepochepoche"), Acknowledged: 50},
			{Name: "remote", Epoch: []byte("epochepochepoche"), Acknowledged: 50}},
	}
	code, out, _ := runLine(t, "verify --against remote --run-dir "+keepArchive(t, a))
	for _, want := range []string{"of records 31 to 40 some are missing: 35", "record 35 is missing here, remote has it",
		`record 33 is not the same in remote: send is 6 here and 5 there, exe is "/bin/a\n" here and "/bin/b\n" there`} {
		if !strings.Contains(out, ", run "+epoch+": "+want+"\n") || code != exitFindings {
			t.Errorf("%q is not in\n%s\nexit code %d", want, out, code)
		}
	}
	if n := strings.Count(out, "found: "); n != 4 {
		t.Errorf("%d findings, want 4\n%s", n, out)
	}
}
