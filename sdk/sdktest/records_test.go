package sdktest

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestEqualSeedsMakeEqualRecords(t *testing.T) {
	t.Parallel()
	one, two, other := Records(5, 300), Records(5, 300), Records(6, 300)
	same := 0
	for i := range one {
		if !proto.Equal(one[i], two[i]) {
			t.Fatalf("seed 5 twice, record %d: %v and %v", i, one[i], two[i])
		}
		if proto.Equal(one[i], other[i]) {
			same++
		}
	}
	if same > len(one)/10 {
		t.Errorf("seeds 5 and 6 have %d of %d records in common", same, len(one))
	}
}

func TestRecordsAreOfEveryKind(t *testing.T) {
	t.Parallel()
	seen := map[sdk.Kind]int{}
	for _, r := range Records(1, 160) {
		seen[sdk.KindOf(r)]++
	}
	if len(seen) != 9 || seen[sdk.KindFlow] != 150 || seen[sdk.KindUnknown] != 0 {
		t.Errorf("got %v, want 150 flows and all 8 other kinds", seen)
	}
}

func TestHostileRecordsReachTheLimits(t *testing.T) {
	t.Parallel()
	var longest, broken int
	for _, r := range Hostile() {
		line := r.GetFlow().GetProcess().GetCommandLine().GetValue()
		longest = max(longest, len(line))
		if bytes.ContainsRune(line, 0) || bytes.IndexByte(line, 0xff) >= 0 {
			broken++
		}
	}
	if longest != wire.MaxCommandLine || broken < 4 {
		t.Errorf("longest command line %d, %d of them with NUL or 0xff; want %d and some", longest, broken, wire.MaxCommandLine)
	}
}

func TestAStreamIsAChain(t *testing.T) {
	t.Parallel()
	s := NewStream(1)
	var chain sdk.Hash
	next := uint64(1)
	for i, records := range [][]*wire.Record{Records(1, 10), Hostile(), Records(2, 1)} {
		b := s.Next(records)
		if b.GetFirst() != next || b.GetLast() != next+uint64(len(records))-1 {
			t.Errorf("batch %d is %d..%d, want it to begin at %d", i, b.GetFirst(), b.GetLast(), next)
		}
		next = b.GetLast() + 1
		var err error
		if chain, err = sdk.Check(b, chain); err != nil {
			t.Errorf("batch %d: %v", i, err)
		}
		if size := proto.Size(b); size > wire.MaxBatchBytes {
			t.Errorf("batch %d has %d bytes", i, size)
		}
	}
	if bytes.Equal(NewStream(2).Epoch[:], s.Epoch[:]) {
		t.Error("two epochs have one name")
	}
}
