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
	"github.com/picosnitch/picosnitch/host/internal/doctor"
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

	absent  map[string]bool  // hooks without a way since the start, by what they see
	down    map[string]int64 // hooks that Reattach left down, with UTC since when
	blind   *blindness       // nil while everything comes back
	adopted bool             // the first window's expiry is told by reportStart
	backoff backoff          // of Reattach

	stop    context.CancelFunc
	running sync.WaitGroup
}

// blindness is a time in which the canary does not come back.
type blindness struct {
	since int64 // utc
	told  int64 // utc: gaps reach until here
	cause string
}

// backoff says when something may be tried again. A zero one says at once.
type backoff struct {
	next int64 // boot ns
	wait time.Duration
}

// ready tells whether it is time, and if so sets the next one.
func (b *backoff) ready(boot int64) bool {
	if boot < b.next {
		return false
	}
	b.wait = min(max(2*b.wait, reattachFirst), reattachLast)
	b.next = boot + int64(b.wait)
	return true
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
	now := w.read().utc
	if w.blind != nil {
		w.tellBlind(now)
	}
	for sees, since := range w.down {
		w.tellDown(sees, since, now)
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
	case ok && len(verdict.Blind) > 0:
		w.lost(verdict)
	case ok && w.blind != nil:
		w.found(verdict)
	case ok && len(w.down) == 0:
		w.backoff = backoff{}
	}
	if len(w.down) > 0 && w.backoff.ready(w.read().boot) {
		w.reattach()
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
	cause := "probes do not see: " + strings.Join(v.Blind, "; ")
	if w.blind == nil {
		w.blind = &blindness{since: v.Since.UTC, told: v.Since.UTC}
		w.fault(fmt.Sprintf("BPF probes have not seen %s since %s, attaching them again",
			strings.Join(v.Blind, " and "), local(v.Since.UTC)))
	}
	b := w.blind
	b.cause = cause
	w.gaps.begin("canary", fmt.Sprintf("%s, since %s", cause, local(b.since)))
	if !w.backoff.ready(w.read().boot) {
		return
	}
	w.log.Warn("attaching probes again", "blind", v.Blind)
	w.reattach()
	w.tellBlind(w.read().utc)
	w.canary.Again()
}

// reattach attaches everything again and tells what could not be: that is tried again later, blind or not.
func (w *watch) reattach() {
	err := w.probes.Reattach()
	now := w.read()
	down := map[string]int64{}
	for _, h := range w.probes.Hooks() {
		since, was := w.down[h.Sees]
		switch {
		case h.Way != "":
			w.gaps.end(hookKey(h))
			if was {
				w.tellDown(h.Sees, since, now.utc)
			}
		case w.absent[h.Sees]: // told at the start
		case !was:
			since = now.utc
			fallthrough
		default:
			down[h.Sees] = since
			w.gaps.begin(hookKey(h), unseen(h))
		}
	}
	w.down = down
	if err != nil {
		w.log.Error("attach probes again", "error", err)
		w.fault(oneLine(err.Error()) + ", try 'picosnitch restart' if this continues")
	}
}

// tellDown tells a hook that Reattach had taken, and gave back.
func (w *watch) tellDown(sees string, since, until int64) {
	w.gaps.tell(&wire.Gap{Start: since, End: until, Reason: wire.GapReason_GAP_HOOK_MISSING, Cause: "not seen: " + sees})
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

// unseen is what status says of a hook without a way.
func unseen(h capture.Hook) string {
	return strings.TrimSpace(fmt.Sprintf("not seen: %s. %s", h.Sees, doctor.Cost(h.Sees)))
}

// missing tells, once a start, what the kernel does not show here.
func (w *watch) missing(hooks []capture.Hook, now time.Time) {
	w.absent = map[string]bool{}
	for _, h := range hooks {
		if h.Way != "" {
			continue
		}
		w.absent[h.Sees] = true
		w.gaps.begin(hookKey(h), unseen(h))
		w.gaps.tell(&wire.Gap{
			Start: now.UnixNano(), End: now.UnixNano(), Reason: wire.GapReason_GAP_HOOK_MISSING,
			Cause: "not seen from here on: " + h.Sees,
		})
		why := make([]string, len(h.Failures))
		for i, f := range h.Failures {
			why[i] = oneLine(f.Error())
		}
		w.note(fmt.Sprintf("Init BPF: not seen on this kernel: %s (%s), try 'picosnitch doctor' to learn more",
			h.Sees, strings.Join(why, "; ")))
	}
}
