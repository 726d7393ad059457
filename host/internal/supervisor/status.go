package supervisor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"

	"github.com/picosnitch/picosnitch/sdk"
)

// board is what is known of one plugin, for everyone to read.
type board struct {
	o *Options

	mu      sync.Mutex
	status  wire.PluginStatus
	trouble time.Time     // since when it has not done what it is for, through all attempts; zero: it does, or need not
	feed    Feed          // nil until the plugin is known to be a sink
	lost    int           // records that the sink refused, since the host started
	changed chan struct{} // closed by the next change of state
}

func newBoard(o *Options) *board { return &board{o: o, changed: make(chan struct{})} }

// enter changes the state and reports it: when it is another one, or when there is an error to tell.
func (b *board) enter(state string, e Event) {
	b.mu.Lock()
	changed := b.status.GetState() != state
	if changed {
		b.status.State, b.status.Since = state, time.Now().UnixNano()
	}
	if state != StateBackoff && state != StateCrashLoop {
		b.status.NextStart = 0
	}
	if e.Error != "" {
		b.status.LastError = e.Error
	}
	switch state {
	case StateBackoff, StateCrashLoop, StateBlocked, StateDegraded:
		if b.trouble.IsZero() {
			b.trouble = time.Now()
		}
	case StateIdle, StateStopped, StateDisabled:
		b.trouble = time.Time{}
	}
	e.Plugin, e.State, e.Time = b.status.GetName(), state, time.Now()
	if changed {
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.mu.Unlock()
	if (changed || e.Error != "") && b.o.Report != nil {
		b.o.Report(e)
	}
}

// works ends the trouble: it did something useful. To run is not enough, it may end over what comes first.
func (b *board) works() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trouble = time.Time{}
}

// changing is closed by the next change of state.
func (b *board) changing() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// degrade enters the degraded state. Only the first reason is reported, later ones are shown.
func (b *board) degrade(why string) {
	if b.state() != StateDegraded {
		b.enter(StateDegraded, Event{Error: why})
		return
	}
	b.update(func(s *wire.PluginStatus) { s.LastError = why })
}

// update changes details.
func (b *board) update(change func(*wire.PluginStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.status)
}

func (b *board) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status.GetState()
}

func (b *board) lastError() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status.GetLastError()
}

func (b *board) kinds() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.status.GetKinds())
}

func (b *board) setFeed(f Feed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.feed = f
}

func (b *board) refused(records int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost += records
}

func (b *board) acknowledged(w sdk.Watermark) {
	b.update(func(s *wire.PluginStatus) { s.Epoch, s.Acknowledged = w.Epoch[:], w.Sequence })
}

// snapshot is a copy for a reader.
func (b *board) snapshot() *wire.PluginStatus {
	b.mu.Lock()
	s := proto.CloneOf(&b.status)
	feed, lost, trouble := b.feed, b.lost, b.trouble
	b.mu.Unlock()
	if feed != nil {
		s.Queued = feed.Lag()
	}
	if more, ok := feed.(Backlog); ok {
		waits, _ := more.Stats() // a journal that cannot be read is told of elsewhere
		s.QueuedBytes, s.SetAside, s.DroppedBy = waits.Bytes, uint64(waits.AsideRecords), waits.Lost()
		for _, records := range s.DroppedBy {
			s.Dropped += records
		}
		if !waits.Oldest.IsZero() {
			s.Oldest = waits.Oldest.UnixNano()
		}
	}
	var room time.Duration
	if b.o.Room != nil && feed != nil {
		room = b.o.Room(s.GetName())
	}
	s.Consequence = consequence(s, trouble, room, time.Now())
	if lost > 0 {
		s.Consequence = strings.TrimPrefix(fmt.Sprintf("%s; %s records were refused and are gaps", s.Consequence, grouped(uint64(lost))), "; ")
	}
	return s
}

// consequence says what the state means for a person. trouble is as on the board; room is for how long the journal has room;
// 0: not known.
func consequence(s *wire.PluginStatus, trouble time.Time, room time.Duration, now time.Time) string {
	switch s.GetState() {
	case StateRunning, StateDisabled, StateIdle, StateDraining:
		return ""
	case StateStarting, StateConfiguring: // one more attempt is no success yet
		if trouble.IsZero() {
			return ""
		}
	}
	if trouble.IsZero() {
		trouble = time.Unix(0, s.GetSince())
	}
	since := clock(trouble, now)
	waits := grouped(s.GetQueued()) + " records wait"
	if room > 0 {
		waits += ", room for about " + about(room)
	}
	switch {
	case slices.Contains(s.GetKinds(), kindStore):
		return fmt.Sprintf("history is not being saved since %s; %s", since, waits)
	case slices.Contains(s.GetKinds(), kindSink):
		return fmt.Sprintf("%s gets nothing since %s; %s", s.GetName(), since, waits)
	}
	return fmt.Sprintf("%s does not work since %s", s.GetName(), since)
}

// clock is a time of today, or a day and a time.
func clock(t, now time.Time) string {
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04")
	}
	return t.Format("Jan 2 15:04")
}

// grouped is a number with commas: 14,200.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// about is a duration in the largest unit of which it has two, or one.
func about(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{day, "day"}, {time.Hour, "hour"}} {
		if n := int(d / unit.length); n == 1 {
			return "1 " + unit.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}
