package supervisor

import (
	"testing"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func TestAGapHasTheTimeOfTheRecordThatItReplaces(t *testing.T) {
	t.Parallel()
	window := &wire.Window{Start: 30, End: 40}
	for name, c := range map[string]struct {
		record     *wire.Record
		start, end int64
	}{
		"flow":          {&wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{Window: window}}}, 30, 40},
		"exec":          {&wire.Record{Kind: &wire.Record_Exec{Exec: &wire.Exec{Window: window}}}, 30, 40},
		"gap":           {&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: 5, End: 9}}}, 5, 9},
		"listen":        {&wire.Record{Kind: &wire.Record_Listen{Listen: &wire.Listen{Time: 7}}}, 7, 7},
		"name":          {&wire.Record{Kind: &wire.Record_Name{Name: &wire.Name{Time: 7}}}, 7, 7},
		"notice":        {&wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: 7}}}, 7, 7},
		"verdict":       {&wire.Record{Kind: &wire.Record_Verdict{Verdict: &wire.Verdict{Time: 7}}}, 7, 7},
		"hash resolved": {&wire.Record{Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{Time: 7}}}, 7, 7},
		"config":        {&wire.Record{Kind: &wire.Record_Config{Config: &wire.Config{Time: 7}}}, 7, 7},
		"no start":      {&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{End: 9}}}, 9, 9},
		"no time":       {&wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{}}}, 99, 99},
		"of no kind":    {&wire.Record{}, 99, 99},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start, end := moment(c.record, time.Unix(0, 99))
			if start != c.start || end != c.end {
				t.Errorf("%d to %d, want %d to %d", start, end, c.start, c.end)
			}
			p := &parcel{}
			p.replace([]*wire.Record{c.record}, "odd")
			g := c.record.GetGap()
			if c.start != 99 && (g.GetStart() != c.start || g.GetEnd() != c.end) || c.start == 99 && g.GetStart() < 1e18 {
				t.Errorf("the gap is %d to %d, want %d to %d", g.GetStart(), g.GetEnd(), c.start, c.end)
			}
		})
	}
}
