package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// recentGaps is how many gaps status tells of.
const recentGaps = 5

// gapJoin is how close gaps of one kind may follow each other and still be told as one.
const gapJoin = time.Minute

// ledger knows when the view was incomplete: it hands gaps to the sinks and keeps what status tells. error.log is written
// by those who find a gap, in their own words.
//
// # Concurrency
//
// Every method may be called from any goroutine.
type ledger struct {
	add func(...*wire.Record) // has records journaled

	mu      sync.Mutex
	lasting []lasting // what is not seen now
	recent  []*wire.Gap
}

// lasting is a gap that has not ended, under a name of ours.
type lasting struct{ key, message string }

// tell has a gap journaled.
func (l *ledger) tell(g *wire.Gap) {
	g.End = max(g.Start, g.End)
	l.add(&wire.Record{Kind: &wire.Record_Gap{Gap: g}})
}

// begin says that something is not seen from now on; status tells it until end. A second begin changes the message.
func (l *ledger) begin(key, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.lasting, func(e lasting) bool { return e.key == key }); i >= 0 {
		l.lasting[i].message = message
		return
	}
	l.lasting = append(l.lasting, lasting{key, message})
}

func (l *ledger) end(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lasting = slices.DeleteFunc(l.lasting, func(e lasting) bool { return e.key == key })
}

// remember takes note of the gaps among records that are being journaled, whoever found them.
func (l *ledger) remember(records []*wire.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if g := r.GetGap(); g != nil {
			l.rememberLocked(g)
		}
	}
}

// rememberLocked joins a gap to an earlier one that it goes on from. What is kept is a copy: a record belongs to the
// journal.
func (l *ledger) rememberLocked(g *wire.Gap) {
	for _, known := range l.recent {
		if known.GetReason() == g.GetReason() && known.GetCause() == g.GetCause() && known.GetSink() == g.GetSink() &&
			g.GetStart() >= known.GetStart() && g.GetStart()-known.GetEnd() <= int64(gapJoin) {
			known.End = max(known.GetEnd(), g.GetEnd())
			known.Events += g.GetEvents()
			return
		}
	}
	l.recent = append(l.recent, &wire.Gap{
		Start: g.GetStart(), End: g.GetEnd(), Reason: g.GetReason(), Cause: g.GetCause(), Events: g.GetEvents(), Sink: g.GetSink(),
	})
	l.recent = l.recent[max(0, len(l.recent)-recentGaps):]
}

// messages are for status: what is not seen now, and the last gaps, whatever became of them.
func (l *ledger) messages() (now, recent []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.lasting {
		now = append(now, e.message)
	}
	for _, g := range l.recent {
		recent = append(recent, gapText(g))
	}
	return now, recent
}

// gapText is a gap in one line.
func gapText(g *wire.Gap) string {
	text := fmt.Sprintf("gap from %s to %s: %s", local(g.GetStart()), local(g.GetEnd()), sdk.GapWord(g.GetReason()))
	if g.GetCause() != "" {
		text += ": " + g.GetCause()
	}
	if g.GetSink() != "" {
		text += ", for " + g.GetSink() + " only"
	}
	if g.GetEvents() > 0 {
		text += fmt.Sprintf(" (%d events)", g.GetEvents())
	}
	return text
}

// shortDown is a pause that a restart makes: nobody is bothered with it.
const shortDown = time.Minute

// tellDown tells how long nobody looked.
func (d *daemon) tellDown(from, to time.Time) {
	tell, unit, down := d.fault, time.Second, to.Sub(from)
	if down >= 0 && down < shortDown {
		tell, unit = d.note, time.Millisecond
	}
	tell(fmt.Sprintf("picosnitch was not running for %v, from %s to %s",
		down.Round(unit), from.Local().Format(time.DateTime), to.Format(time.DateTime)))
}
