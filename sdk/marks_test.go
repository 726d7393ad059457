package sdk

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// part is the batch first..last of an epoch.
func part(epoch byte, first, last uint64, records ...*wire.Record) *Batch {
	return &Batch{Epoch: Epoch{epoch}, Batch: &wire.Batch{Epoch: append([]byte{epoch}, make([]byte, 15)...), First: first, Last: last, Records: records}}
}

func TestMarksDecideWhatIsStored(t *testing.T) {
	t.Parallel()
	gap := &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Epoch: part(1, 0, 0).Batch.Epoch, First: 11, Last: 19}}}
	for name, test := range map[string]struct {
		batch *Batch
		store bool
		have  int64 // of the Rewind; -1: none
	}{
		"follows":               {part(1, 11, 20), true, -1},
		"stored before":         {part(1, 1, 10), false, -1},
		"older still":           {part(1, 1, 5), false, -1},
		"first of an epoch":     {part(2, 1, 5), true, -1},
		"after a hole":          {part(1, 20, 25), false, 10},
		"hole in a new epoch":   {part(2, 2, 5), false, 0},
		"hole that is told of":  {part(1, 20, 25, gap), true, -1},
		"hole of another epoch": {part(2, 20, 25, gap), false, 0},
		"overlaps":              {part(1, 10, 15), false, 10},
	} {
		m := NewMarks([]Watermark{{Epoch{1}, 10}})
		store, err := m.Decide(test.batch)
		var rewind *Rewind
		if store != test.store || errors.As(err, &rewind) != (test.have >= 0) {
			t.Errorf("%s: got %v, %v, want %v", name, store, err, test.store)
		}
		if rewind != nil && rewind.Have != (Watermark{test.batch.Epoch, uint64(test.have)}) {
			t.Errorf("%s: %v, want %d", name, rewind, test.have)
		}
	}
}

func TestMarksTakeABatchThatComesAgainRightAfterItsRewind(t *testing.T) {
	t.Parallel()
	m := NewMarks([]Watermark{{Epoch{1}, 10}})
	late, later := part(1, 20, 25), part(1, 30, 35)
	for i, step := range []struct {
		batch *Batch
		store bool
	}{{late, false}, {later, false}, {late, false}, {late, true}} {
		if store, err := m.Decide(step.batch); store != step.store || store != (err == nil) {
			t.Fatalf("step %d: got %v, %v, want %v", i, store, err, step.store)
		}
	}
	m.Stored(late)
	if store, err := m.Decide(part(1, 26, 27)); !store || err != nil {
		t.Errorf("the batch after: %v, %v", store, err)
	}
}

func TestMarksKeepTheNewestEpochs(t *testing.T) {
	t.Parallel()
	m := NewMarks([]Watermark{{Epoch{0}, 1}, {Epoch{1}, 5}, {Epoch{1}, 10}})
	with := m.With(part(0, 2, 3))
	if diff := cmp.Diff([]Watermark{{Epoch{0}, 3}, {Epoch{1}, 10}}, with); diff != "" {
		t.Errorf("with a batch, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]Watermark{{Epoch{0}, 1}, {Epoch{1}, 10}}, m.List()); diff != "" {
		t.Errorf("With changed the marks, -want +got:\n%s", diff)
	}
	for epoch := byte(2); epoch < 70; epoch++ {
		m.Stored(part(epoch, 1, 4))
	}
	if list := m.List(); len(list) != maxWatermarks || list[0].Epoch != (Epoch{6}) || list[maxWatermarks-1] != (Watermark{Epoch{69}, 4}) {
		t.Errorf("got %d marks, %v to %v", len(list), list[0], list[len(list)-1])
	}
}

func TestWatermarksTravelAsJSON(t *testing.T) {
	t.Parallel()
	want := []Watermark{{Epoch{1, 0xff}, 7}}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `[{"epoch":"01ff0000000000000000000000000000","sequence":7}]` {
		t.Fatalf("%s, %v", text, err)
	}
	var got []Watermark
	if err := json.Unmarshal(text, &got); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{`[{"epoch":"01"}]`, `[{"epoch":"zzff0000000000000000000000000000"}]`, `[{"epoch":"01ff000000000000000000000000000000"}]`} {
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
