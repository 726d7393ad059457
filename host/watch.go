package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/canary"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// How often clocks are looked at and the canary asked, at least; and how long it takes until blind probes are attached
// again that were attached again in vain.
const (
	watchEvery    = 5 * time.Second
	reattachFirst = time.Minute
	reattachLast  = time.Hour
)

// probes is the part of capture.Kernel that a watch needs.
type probes interface {
	Reattach() error
	Hooks() []capture.Hook
	Expired(w *capture.Window) (capture.Moment, bool)
}

// watch looks whether the view is complete, and tells the gaps that nobody else can.
//
// # Concurrency
//
// see belongs to the goroutine that reads events; run is a goroutine of its own, between start and close.
type watch struct {
	gaps   *ledger
	canary *canary.Canary
	probes probes
	clocks clockWatch
	read   func() clocks
	fault  func(string) // into error.log, and a notice
	note   func(string) // into error.log
	log    *slog.Logger

	blind   *blindness // nil while everything comes back
	adopted bool       // an expiry is not told by the first window: reportStart did
	down    bool       // Reattach left hooks down

	stop    context.CancelFunc
	running sync.WaitGroup
}

// blindness is a time in which the canary does not come back.
type blindness struct {
	since int64 // utc
	told  int64 // utc: gaps reach until here
	cause string
	next  int64 // boot ns of the next Reattach
	wait  time.Duration
}

// start begins to watch until close.
func (w *watch) start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	w.running.Go(func() { w.run(ctx) })
}

// close ends what start began, and the gap that lasts, if one does. The goroutine that reads events has ended.
func (w *watch) close() {
	if w.stop != nil {
		w.stop()
		w.running.Wait()
	}
	w.canary.Close()
	if w.blind != nil {
		w.tellBlind(w.read().utc)
	}
}

func (w *watch) run(ctx context.Context) {
	every := time.NewTicker(watchEvery)
	defer every.Stop()
	for {
		w.look()
		if err := w.canary.Tick(); err != nil {
			w.log.Warn("canary", "error", err)
			w.note(err.Error() + ": whether probes still see is not known")
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// look reads the clocks.
func (w *watch) look() {
	for _, found := range w.clocks.look(w.read()) {
		w.gaps.tell(found.gap)
		w.note(found.text)
		w.log.Info("clock", "gap", found.text)
		if found.gap.GetReason() == wire.GapReason_GAP_SUSPENDED {
			w.canary.Again()
		}
	}
}

// see looks at an event before identity does, and gives what is left of it: a window without the canary's flows, nothing
// for its tiny program.
func (w *watch) see(event capture.Event) capture.Event {
	if w == nil {
		return event
	}
	switch e := event.(type) {
	case *capture.Process:
		if !w.canary.Process(e) {
			return e
		}
		if e.Exited == 0 {
			return nil
		}
		return &capture.Exit{Key: e.Key, Time: e.Exited} // so that the kernel side forgets it
	case *capture.Exit:
		w.canary.Exit(e)
	case *capture.Window:
		w.window(e)
	}
	return event
}

func (w *watch) window(e *capture.Window) {
	w.look()
	if since, ok := w.probes.Expired(e); ok && !w.adopted {
		w.tellExpired(since.UTC, e.End.UTC)
	}
	w.adopted = false
	verdict, ok := w.canary.Window(e)
	switch {
	case !ok:
	case len(verdict.Blind) > 0:
		w.lost(verdict)
	case w.blind != nil:
		w.found(verdict)
	}
}

// told takes note of what is journaled.
func (w *watch) told(records []*wire.Record) {
	if w != nil {
		w.gaps.remember(records)
	}
}

// tellExpired tells of probes that switched themselves off.
func (w *watch) tellExpired(since, until int64) {
	w.gaps.tell(&wire.Gap{
		Start: since, End: until, Reason: wire.GapReason_GAP_HOST_DOWN,
		Cause: "probes switched themselves off: nobody drained them",
	})
	w.fault(fmt.Sprintf("BPF probes switched themselves off, because nobody drained them: nothing was seen from %s to %s, "+
		"see that picosnitch is started again when it ends", local(since), local(until)))
}

// lost answers an exchange that did not come back: the gap is told, and the probes are attached again, from time to time.
func (w *watch) lost(v canary.Verdict) {
	now := w.read()
	cause := "probes do not see: " + strings.Join(v.Blind, "; ")
	if w.blind == nil {
		w.blind = &blindness{since: v.Since.UTC, told: v.Since.UTC, wait: reattachFirst}
		w.fault(fmt.Sprintf("BPF probes have not seen %s since %s, attaching them again",
			strings.Join(v.Blind, " and "), local(v.Since.UTC)))
	}
	b := w.blind
	b.cause = cause
	w.gaps.begin("canary", fmt.Sprintf("%s, since %s", cause, local(b.since)))
	if now.boot < b.next {
		return
	}
	b.next, b.wait = now.boot+int64(b.wait), min(2*b.wait, reattachLast)
	w.log.Warn("attaching probes again", "blind", v.Blind)
	w.reattach()
	w.tellBlind(w.read().utc)
	w.canary.Again()
}

// reattach attaches everything again and tells what could not be.
func (w *watch) reattach() {
	err := w.probes.Reattach()
	if err == nil && !w.down {
		return
	}
	w.down = false
	for _, h := range w.probes.Hooks() {
		if h.Way != "" {
			w.gaps.end(hookKey(h))
			continue
		}
		w.down = w.down || h.Essential
		w.gaps.begin(hookKey(h), "not seen: "+h.Sees)
	}
	if err != nil {
		w.down = true
		w.log.Error("attach probes again", "error", err)
		w.fault(oneLine(err.Error()) + ", try 'picosnitch restart' if this continues")
	}
}

// tellBlind journals the part of the gap that was not told yet.
func (w *watch) tellBlind(until int64) {
	b := w.blind
	w.gaps.tell(&wire.Gap{Start: b.told, End: until, Reason: wire.GapReason_GAP_CANARY_LOST, Cause: b.cause})
	b.told = max(b.told, until)
}

// found ends the gap: the probes saw at least from then on.
func (w *watch) found(v canary.Verdict) {
	w.tellBlind(v.Since.UTC)
	w.note(fmt.Sprintf("BPF probes see again, they did not from %s to %s", local(w.blind.since), local(v.Since.UTC)))
	w.log.Info("probes see again")
	w.gaps.end("canary")
	w.blind = nil
}

func hookKey(h capture.Hook) string { return "hook " + h.Sees }

// missing tells, once a start, what the kernel does not show here.
func (w *watch) missing(hooks []capture.Hook, now time.Time) {
	for _, h := range hooks {
		if h.Way != "" {
			continue
		}
		why := make([]string, len(h.Failures))
		for i, f := range h.Failures {
			why[i] = oneLine(f.Error())
		}
		w.gaps.begin(hookKey(h), "not seen on this kernel: "+h.Sees)
		w.gaps.tell(&wire.Gap{
			Start: now.UnixNano(), End: now.UnixNano(), Reason: wire.GapReason_GAP_HOOK_MISSING,
			Cause: "not seen from here on: " + h.Sees,
		})
		w.note(fmt.Sprintf("Init BPF: not seen on this kernel: %s (%s), run 'picosnitch doctor' to learn more",
			h.Sees, strings.Join(why, "; ")))
	}
}
