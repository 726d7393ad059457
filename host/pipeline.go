package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/library"
	"github.com/picosnitch/picosnitch/host/internal/live"
	"github.com/picosnitch/picosnitch/host/internal/name"
	"github.com/picosnitch/picosnitch/host/internal/reverse"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// pipeline wires the stages: this file alone knows all of them. Events go from capture to identity as they come; a
// window waits for the hashes of those it names, becomes records, is journaled, and only then does the kernel side forget
// it: whenever the host dies, a window is either in the journal or still in the kernel.
//
// # Concurrency
//
// run reads events; each window is finished by a goroutine of its own, and there is never more than one, since capture
// gives no window before the last one was released. add and gap may be called from anywhere.
type pipeline struct {
	source    capture.Source
	table     *identity.Table
	names     *name.Table
	libraries *library.Libraries // nil: those of containers are not followed
	recorder  *scribe
	feed      *live.Feed     // nil: nobody can watch
	seen      *executables   // nil: nobody may ask for executables
	reverse   *reverse.Asker // nil: addresses are not looked up
	journal   *journal.Journal
	log       *slog.Logger
	hold      time.Duration // how long a window waits for hashes
	everyExe  bool
	now       func() time.Time
	watch     *watch      // nil: nobody looks whether the view is complete
	between   chan func() // what is to be done between two windows, such as replacing the recorder; nil: nothing ever is

	execs []*capture.Process // since the last window, with everyExe
	owed  *owed
	told  map[capture.Uncounted]bool

	mu    sync.Mutex
	extra []*wire.Record // to be journaled with the next window
	alive time.Time      // last written
	last  capture.Position
}

// markPosition is where the journal keeps how far windows have come; markAlive when the host was last known to run.
const (
	markPosition = "position"
	markAlive    = "alive"
	aliveEvery   = time.Minute
)

// errRestart tells that the host has to be started again; nothing is lost by it.
var errRestart = errors.New("the daemon must be restarted")

// run moves everything from source to journal until ctx ends, and then what the kernel side still holds.
func (p *pipeline) run(ctx context.Context) error {
	p.owe()
	var finishing sync.WaitGroup
	defer finishing.Wait()
	failed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		if err := p.source.Close(); err != nil {
			p.log.Error("stop capture", "error", err)
		}
	})
	defer stop()
	reading, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	for {
		event, err := p.source.Next(reading)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			select {
			case err = <-failed:
			default:
			}
			return err
		}
		window, ok := p.observe(event)
		if !ok {
			continue
		}
		execs := p.execs
		p.execs = nil
		finishing.Wait()
		p.pause()
		finishing.Go(func() {
			if err := p.finish(ctx, window, execs); err != nil {
				failed <- err
				cancel(err)
			}
		})
	}
}

// pause does what waits for a moment without a window.
func (p *pipeline) pause() {
	select {
	case do := <-p.between:
		do()
	default:
	}
}

// observe hands an event to identity; a window is the caller's.
func (p *pipeline) observe(event capture.Event) (*capture.Window, bool) {
	switch e := p.watch.see(event).(type) {
	case *capture.Process:
		p.table.Observe(e)
		p.began(e)
		if p.everyExe && !e.Forked {
			p.execs = append(p.execs, e)
		}
	case *capture.Exit:
		p.table.End(e)
		p.ended(e)
	case *capture.Payload:
		p.names.Observe(name.Payload{
			Process: e.Process, Socket: e.Socket, NetNS: e.NetNS, UID: e.UID, Protocol: uint16(e.Protocol), Remote: e.Remote,
			Received: e.Received, Time: e.Time, Offset: e.Offset, Data: e.Data,
		})
	case *capture.Lookup:
		owner := name.Owner{Process: e.Process, UID: e.UID, NetNS: e.NetNS}
		p.names.Lookup(owner, string(e.Host), e.Addresses, e.Time)
	case *capture.Uncounted:
		p.uncounted(e)
	case *capture.Window:
		return e, true
	}
	return nil, false
}

// finish turns a window into journaled records and lets the kernel side and the table forget what is done with.
func (p *pipeline) finish(ctx context.Context, w *capture.Window, execs []*capture.Process) error {
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.hold)
	p.table.Await(waiting, named(w, execs))
	cancel()
	p.names.Window(w)
	p.owed.ask(p.table)
	recorder := p.recorder.use()
	records := p.resolved()
	for _, e := range execs {
		if r := recorder.Exec(e, p.table.LineageOf(e.Key)); r != nil {
			records = append(records, r)
		}
	}
	for _, f := range p.table.Forgeries() {
		recorder.Forged(f.Process, f.Shown)
	}
	records = append(records, recorder.Window(w, p.table.Lineage)...)
	p.show(w, records)
	p.reverse.Window(w, records)
	records = append(records, p.takeExtra()...)
	p.watch.told(records)
	if err := p.append(ctx, records, w); err != nil {
		return err
	}
	p.table.Recorded(w.Start.Boot)
	if err := p.source.Forget(p.table.Forgotten()); err != nil {
		return err
	}
	if err := p.source.Release(w.Generation); err != nil { // comes last: a source that was closed may be gone after it
		return err
	}
	if err := recorder.Flush(); err != nil {
		p.log.Warn("write logs", "error", err)
	}
	return nil
}

// named are the processes that the records of a window name.
func named(w *capture.Window, execs []*capture.Process) []capture.Key {
	keys := make([]capture.Key, 0, len(w.Flows)+len(execs))
	for i := range w.Flows {
		keys = append(keys, w.Flows[i].Process)
	}
	for _, e := range execs {
		keys = append(keys, e.Key)
	}
	return keys
}

// append journals records and position in one commit. It keeps trying while the disk refuses: until then the kernel side
// keeps the sums.
func (p *pipeline) append(ctx context.Context, records []*wire.Record, w *capture.Window) error {
	marks, err := p.marks(w, records)
	if err != nil || (len(records) == 0 && len(marks) == 0) {
		return err
	}
	refused := false
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 10*time.Second) {
		_, _, err := p.journal.Append(records, marks...)
		switch {
		case err == nil:
			p.journaled(w)
			if refused {
				p.recorder.Note("journal: takes records again, none was lost")
			}
			return nil
		case errors.Is(err, journal.ErrBroken):
			return fmt.Errorf("%w: %w", errRestart, err)
		case errors.Is(err, journal.ErrClosed):
			return err
		}
		if !refused {
			p.log.Error("journal a window; trying again", "error", err)
			p.recorder.Error("journal: " + err.Error())
		}
		refused = true
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			// Stopping: one more try, then the sums stay in the kernel for the next start.
			if _, _, err := p.journal.Append(records, marks...); err != nil {
				return fmt.Errorf("journal the last window: %w", err)
			}
			p.journaled(w)
			return nil
		}
	}
}

// marks are the small facts to be durable with a window. A window without records moves the position too, unless nothing
// at all happened in it: an idle machine's disk is left asleep.
func (p *pipeline) marks(w *capture.Window, records []*wire.Record) ([]journal.Mark, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if len(records) == 0 && len(w.Flows) == 0 && len(w.Losses) == 0 && now.Sub(p.alive) < aliveEvery {
		return nil, nil
	}
	p.alive = now
	p.owed.note(records, p.journal.Epoch(), p.journal.Next())
	owed, err := p.owed.mark()
	if err != nil {
		return nil, err
	}
	position, err := positionMarks(w.Position, now)
	return append(position, owed...), err
}

// journaled notes that a window is safe. Not before: what close writes last must not say more than the journal holds.
func (p *pipeline) journaled(w *capture.Window) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = w.Position
}

// journalStart makes safe what is known from the start, such as how long no host ran: a host that is killed before its first
// window must not take that knowledge with it.
func (p *pipeline) journalStart() error {
	records := p.takeExtra()
	if len(records) == 0 {
		return nil
	}
	if _, _, err := p.journal.Append(records); err != nil {
		p.mu.Lock()
		p.extra = append(records, p.extra...)
		p.mu.Unlock()
		return fmt.Errorf("journal what this start found: %w", err)
	}
	return nil
}

// owe reads which hashes an earlier host has left to find. Without them nothing else is amiss.
func (p *pipeline) owe() {
	var err error
	if p.owed, err = readOwed(p.journal); err != nil {
		p.log.Warn("some rows of the last run stay without a hash", "error", err)
	}
}

// resolved gives records for every hash that came after its rows, one for each run that wrote such rows.
func (p *pipeline) resolved() []*wire.Record {
	var records []*wire.Record
	for _, late := range p.table.Late() {
		runs := p.owed.take(late.File)
		if len(runs) > 0 && late.SHA256 != nil {
			p.recorder.use().Hashed(withHash(runs[0].process, late))
		}
		for _, rows := range runs {
			records = append(records, &wire.Record{Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{
				Time: p.now().UnixNano(), Superblock: late.File.Superblock, Device: late.File.Device, Inode: late.File.Inode,
				Ctime: late.File.Ctime, Size: late.File.Size, Sha256: late.SHA256, HashStatus: late.Status,
				Epoch: rows.epoch[:], First: rows.first, Last: rows.last,
			}}})
		}
	}
	return records
}

// show lets those who watch see a window, and what else was made with it.
func (p *pipeline) show(w *capture.Window, records []*wire.Record) {
	p.seen.take(records)
	if p.feed != nil {
		p.feed.Window(w, records)
		p.feed.Records(records)
	}
}

// add has records journaled with the next window. Who watches sees them at once.
func (p *pipeline) add(records ...*wire.Record) {
	if p.feed != nil {
		p.feed.Records(records)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.extra = append(p.extra, records...)
}

func (p *pipeline) takeExtra() []*wire.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	records := p.extra
	p.extra = nil
	return records
}

// close journals what is left when no window comes any more, and that the host ran until now.
func (p *pipeline) close() error {
	marks, err := positionMarks(p.last, p.now())
	if err != nil {
		return err
	}
	records := append(p.resolved(), p.takeExtra()...)
	owed, err := p.owed.mark()
	if err != nil {
		return err
	}
	if _, _, err := p.journal.Append(records, append(marks, owed...)...); err != nil {
		return fmt.Errorf("journal the end: %w", err)
	}
	return nil
}
