package sdk

import (
	"context"
	"errors"
	"fmt"
	"testing"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// metered is a fake that counts something of its own.
type metered struct {
	fake
	own map[string]int64
}

func (m *metered) Metrics(context.Context) map[string]int64 { return m.own }

func TestHealthTellsWhatWasCounted(t *testing.T) {
	t.Parallel()
	var answer error
	c, _ := ready(t, &metered{
		fake: fake{apply: func(context.Context, *Batch) error {
			if answer == nil {
				return nil
			}
			return answer
		}},
		own: map[string]int64{"files": 3, "batches": 99, "Not a name": 1, "": 1},
	})
	for _, err := range []error{nil, nil, errors.New("later"), &Retry{}, &Rejection{}, &Rewind{}} {
		answer = err
		if _, err := c.Sink.Apply(t.Context(), request(t, batchOf(3))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := received(c.Store.Query(t.Context(), &wire.Query{})); err != nil {
		t.Fatal(err)
	}
	h, err := c.Plugin.Health(t.Context(), &wire.HealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := h.GetMetrics()
	for name, want := range map[string]int64{"files": 3, "batches": 2, "records": 6, "retries": 2, "rejections": 1, "rewinds": 1,
		"applies": 6, "queries": 1, "panics": 0} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
	for _, name := range []string{"bytes", "apply_ns", "go_heap_bytes", "go_goroutines"} {
		if got[name] <= 0 {
			t.Errorf("%s is %d", name, got[name])
		}
	}
	if len(got) != 13 {
		t.Errorf("%d metrics: %v", len(got), got)
	}
}

func TestAPluginCannotFloodItsMetrics(t *testing.T) {
	t.Parallel()
	own := map[string]int64{}
	for i := range 10_000 {
		own[fmt.Sprintf("m%d", i)] = 1
	}
	c, _ := ready(t, &metered{own: own})
	h, err := c.Plugin.Health(t.Context(), &wire.HealthRequest{})
	if err != nil || len(h.GetMetrics()) > maxMetrics+20 || h.GetMetrics()["applies"] != 0 {
		t.Errorf("%d metrics, %v", len(h.GetMetrics()), err)
	}
}
