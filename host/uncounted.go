package main

import (
	"fmt"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxUncounted bounds how many processes are remembered to have been told of.
const maxUncounted = 4096

// uncounted tells, once for each process and way, that there is traffic whose bytes cannot be counted.
func (p *pipeline) uncounted(e *capture.Uncounted) {
	known := *e
	known.Time = 0
	if p.told[known] {
		return
	}
	if p.told == nil || len(p.told) >= maxUncounted {
		p.told = map[capture.Uncounted]bool{}
	}
	p.told[known] = true
	process := p.recorder.use().Recordable(p.table.LineageOf(e.Process).Process)
	now := p.now().UnixNano()
	p.add(&wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{
		Start: now, End: now, Reason: wire.GapReason_GAP_UNCOUNTED, Process: process,
		Cause: e.Way + ": what it moves cannot be counted",
	}}})
	p.recorder.Error(fmt.Sprintf("%s (pid %d) uses a way onto the network that cannot be counted: %s",
		sdk.Escape(process.GetExecutable().GetPath().GetValue()), e.Process.Tgid, e.Way))
}
