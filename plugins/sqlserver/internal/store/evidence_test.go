package store

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// evidence is what the store says of each batch.
func evidence(t *testing.T, s *Store, host []byte) []*wire.BatchEvidence {
	t.Helper()
	var list []*wire.BatchEvidence
	err := s.Evidence(t.Context(), &wire.EvidenceRequest{HostId: host}, func(p *wire.EvidencePage) error {
		list = append(list, p.GetBatches()...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// evidenceFinds what was altered or removed behind the store's back, row by row.
func evidenceFinds(t *testing.T, server *dbserver.Server) {
	s := open(t, ours(t, server))
	stream := sdktest.NewStream(1)
	for i := range 8 {
		b := stream.Next(sdktest.Records(uint64(i), 160))
		apply(t, s, &sdk.Batch{Batch: b, Epoch: stream.Epoch})
	}
	apply(t, s, batchOf(7, 1, 1, sdktest.Hostile()...))
	all := evidence(t, s, nil)
	if len(all) != 9 {
		t.Fatalf("%d batches, want 9", len(all))
	}
	for _, b := range all {
		if b.GetState() != wire.BatchEvidence_SOUND || b.GetEnd() < b.GetStart() {
			t.Errorf("before anything was altered: %v", b)
		}
	}
	if got := evidence(t, s, stream.Host[:]); len(got) != 8 {
		t.Errorf("%d batches of one host, want 8", len(got))
	}
	table := tableName(t)
	quote := `"`
	if server.Socket != "" {
		quote = "`"
	}
	ours := ` host_id LIKE '73646b%'`
	for _, statement := range []string{
		"UPDATE " + table + " SET send = send + 1 WHERE seq = 3 AND" + ours,
		"DELETE FROM " + table + " WHERE seq = 165 AND" + ours,
		"UPDATE " + table + "_notices SET text = 'nothing happened' WHERE seq IN (SELECT * FROM (SELECT min(seq) FROM " + table + "_notices WHERE" + ours + ") x) AND" + ours,
		"UPDATE " + table + " SET raddr_ip = '00000000' WHERE seq = 642 AND" + ours,
		"UPDATE " + table + " SET send = 5 WHERE kind = 'exec' AND seq > 800 AND seq <= 960 AND" + ours,
		added(table, "9999", "seq = 10 AND"+ours),
		added(table+"_notices", "-5", "seq = 64 AND"+ours),
		strings.Replace(added(table, "3", "seq = 10 AND"+ours), "epoch", "'"+strings.Repeat("ab", 16)+"'", 1),
		"UPDATE " + table + "_batches SET root = 'ff' WHERE " + quote + "first" + quote + " = 1121 AND" + ours,
	} {
		server.SQL(statement)
	}
	type finding struct {
		Missing, Altered, Extra []uint64
		Sound                   bool
	}
	var got []finding
	for _, b := range evidence(t, s, stream.Host[:]) {
		got = append(got, finding{b.GetMissing(), b.GetAltered(), b.GetExtra(), b.GetState() == wire.BatchEvidence_SOUND})
	}
	want := []finding{
		{Altered: []uint64{3, 64}}, {Missing: []uint64{165}}, {Sound: true}, {Sound: true},
		{Altered: []uint64{642}}, {Altered: []uint64{816, 944}}, {Sound: true}, {},
		{Extra: []uint64{math.MaxUint64 - 4, 9999}}, {Extra: []uint64{3}},
	}
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b uint64) bool { return a < b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	leavesOfOne(t, s, all[2]) // the first one is of another host
}

// added is a statement that adds a row like another one, with another number.
func added(table, seq, where string) string {
	t := tableOf(table[strings.LastIndex(table, "evidence")+len("evidence"):])
	var names []string
	for _, name := range t.names() {
		if name == "seq" {
			name = seq
		}
		names = append(names, name)
	}
	return "INSERT INTO " + table + " SELECT " + strings.Join(names, ", ") + " FROM " + table + " WHERE " + where
}

// leavesOfOne asks for a batch of which a row was deleted.
func leavesOfOne(t *testing.T, s *Store, whole *wire.BatchEvidence) {
	t.Helper()
	r := &wire.EvidenceRequest{HostId: whole.GetHostId(), Epoch: whole.GetEpoch(), First: whole.GetFirst()}
	var got []*wire.BatchEvidence
	if err := s.Evidence(t.Context(), r, func(p *wire.EvidencePage) error { got = append(got, p.GetBatches()...); return nil }); err != nil {
		t.Fatal(err)
	}
	const size = len(sdk.Hash{})
	if len(got) != 1 || got[0].GetFirst() != r.First || len(got[0].GetLeaves()) != 160*size {
		t.Fatalf("got %v, want one batch with its leaves", got)
	}
	for i := range 160 {
		leaf, gone := sdk.Hash(got[0].GetLeaves()[i*size:][:size]), whole.GetFirst()+uint64(i) == 165
		if (leaf == sdk.Hash{}) != gone {
			t.Errorf("leaf %d is %x, the row is gone: %v", i, leaf, gone)
		}
	}
}
