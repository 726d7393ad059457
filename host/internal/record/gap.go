package record

import (
	"fmt"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Gaps gives a record for every loss of the window that leaves something unknown. A loss that is exact leaves nothing: its
// bytes stand in a row without a peer.
func Gaps(w *capture.Window) []*wire.Record {
	var out []*wire.Record
	for _, loss := range w.Losses {
		if !isGap(loss) {
			continue
		}
		out = append(out, &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{
			Start: w.Start.UTC, End: w.End.UTC, Reason: gapReason(loss.Cause), Cause: strings.ToValidUTF8(loss.Cause, "?"),
			Events: loss.Events, Sent: loss.Sent, Received: loss.Received,
		}}})
	}
	return out
}

func isGap(l capture.Loss) bool {
	return !l.Exact && (l.Events > 0 || l.Sent > 0 || l.Received > 0)
}

func gapReason(cause string) wire.GapReason {
	if strings.Contains(cause, " map") {
		return wire.GapReason_GAP_MAP_FULL
	}
	return wire.GapReason_GAP_EVENTS_LOST
}

// gapError is the error.log line of a gap, without its numbers (the key, for repetitions) and with them.
func gapError(l capture.Loss) (key, text string) {
	event, buffer, _ := strings.Cut(l.Cause, " ")
	if strings.Contains(buffer, "ring") { // the words of 1.0.3, which people search for
		key = fmt.Sprintf("BPF callbacks not processing fast enough, missed %s event, "+
			"try increasing 'Perf ring buffer (pages)' (power of two) if this continues", event)
	} else {
		key = "BPF lost events: " + l.Cause
	}
	return key, fmt.Sprintf("%s (%d events, %d bytes sent, %d received)", key, l.Events, l.Sent, l.Received)
}
