package sdk

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestASequelForgetsItsQuestionOnceABatchIsStored(t *testing.T) {
	t.Parallel()
	var s Sequel
	late := part(1, 20, 25)
	for i, step := range []struct {
		batch *Batch
		have  uint64
		store bool
	}{{late, 10, false}, {late, 10, true}, {late, 10, true}} { // twice: the first time it could not be stored
		if store, err := s.Decide(step.batch, step.have); store != step.store || store != (err == nil) {
			t.Fatalf("step %d: got %v, %v, want %v", i, store, err, step.store)
		}
	}
	s.Stored()
	var rewind *Rewind
	if store, err := s.Decide(late, 0); store || !errors.As(err, &rewind) || rewind.Have.Sequence != 0 {
		t.Errorf("the database was lost: got %v, %v, want a rewind to its beginning", store, err)
	}
}

func TestAGapStandsForTheLastOfTheRecordsItTellsOf(t *testing.T) {
	t.Parallel()
	gap := func(first, last uint64) *Batch {
		b := part(1, last, last)
		b.Records = []*wire.Record{{Sequence: last, Kind: &wire.Record_Gap{Gap: &wire.Gap{Epoch: b.Batch.Epoch, First: first, Last: last}}}}
		return b
	}
	for name, test := range map[string]struct {
		batch *Batch
		have  uint64
		store bool
	}{
		"several": {gap(11, 20), 10, true}, "one": {gap(11, 11), 10, true}, "from the beginning": {gap(1, 7), 0, true},
		"some of them are here": {gap(11, 20), 15, true}, "all are": {gap(11, 20), 20, false}, "not all of them": {gap(12, 20), 10, false},
	} {
		if store, _ := new(Sequel).Decide(test.batch, test.have); store != test.store {
			t.Errorf("%s: got %v, want %v", name, store, test.store)
		}
		if test.store && Missing(test.batch, test.have, "sink") != nil {
			t.Errorf("%s: the batch tells of it, and yet there is a second gap", name)
		}
	}
}

func TestWhatIsMissingIsAGapBeforeTheBatch(t *testing.T) {
	t.Parallel()
	b := part(1, 20, 21, &wire.Record{}, &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{Window: &wire.Window{Start: 5, End: 9}}}})
	want := &wire.Gap{Start: 5, End: 5, Reason: wire.GapReason_GAP_QUEUE_DROPPED, Events: 9, Cause: "never delivered to mine",
		Epoch: b.Batch.Epoch, First: 11, Last: 19, Sink: "mine"}
	if diff := cmp.Diff(want, Missing(b, 10, "mine"), protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if g := Missing(b, 19, "mine"); g != nil {
		t.Errorf("nothing is missing, but %v", g)
	}
}
