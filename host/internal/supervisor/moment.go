package supervisor

import (
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// moment is the span of time that a record tells of, UTC ns; now, where it does not say.
func moment(r *wire.Record, now time.Time) (start, end int64) {
	switch k := r.GetKind().(type) {
	case *wire.Record_Flow:
		start, end = k.Flow.GetWindow().GetStart(), k.Flow.GetWindow().GetEnd()
	case *wire.Record_Exec:
		start, end = k.Exec.GetWindow().GetStart(), k.Exec.GetWindow().GetEnd()
	case *wire.Record_Gap:
		start, end = k.Gap.GetStart(), k.Gap.GetEnd()
	case *wire.Record_Listen:
		start = k.Listen.GetTime()
	case *wire.Record_Name:
		start = k.Name.GetTime()
	case *wire.Record_Notice:
		start = k.Notice.GetTime()
	case *wire.Record_Verdict:
		start = k.Verdict.GetTime()
	case *wire.Record_HashResolved:
		start = k.HashResolved.GetTime()
	case *wire.Record_Config:
		start = k.Config.GetTime()
	}
	switch {
	case start == 0 && end == 0:
		return now.UnixNano(), now.UnixNano()
	case start == 0:
		return end, end
	}
	return start, max(start, end)
}
