package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"

	"github.com/picosnitch/picosnitch/sdk"
)

// board is what is known of one plugin, for everyone to read.
type board struct {
	report func(Event)

	mu     sync.Mutex
	status wire.PluginStatus
	feed   Feed // nil until the plugin is known to be a sink
	lost   int  // records that the sink refused, since the host started
}

// enter changes the state and reports it: when it is another one, or when there is an error to tell.
func (b *board) enter(state string, e Event) {
	b.mu.Lock()
	changed := b.status.GetState() != state
	if changed {
		b.status.State, b.status.Since = state, time.Now().UnixNano()
	}
	if state != StateBackoff {
		b.status.NextStart = 0
	}
	if e.Error != "" {
		b.status.LastError = e.Error
	}
	e.Plugin, e.State, e.Time = b.status.GetName(), state, time.Now()
	b.mu.Unlock()
	if (changed || e.Error != "") && b.report != nil {
		b.report(e)
	}
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
	feed, lost := b.feed, b.lost
	b.mu.Unlock()
	if feed != nil {
		s.Queued = feed.Lag()
	}
	s.Consequence = consequence(s)
	if lost > 0 {
		s.Consequence = strings.TrimPrefix(fmt.Sprintf("%s; %d records were refused and are gaps", s.Consequence, lost), "; ")
	}
	return s
}

// consequence says what the state means for a person.
func consequence(s *wire.PluginStatus) string {
	switch s.GetState() {
	case StateRunning, StateDisabled, StateStarting, StateConfiguring:
		return ""
	}
	since := time.Unix(0, s.GetSince()).Format("15:04")
	switch {
	case slices.Contains(s.GetKinds(), kindStore):
		return fmt.Sprintf("history is not being saved since %s; %d records wait", since, s.GetQueued())
	case slices.Contains(s.GetKinds(), kindSink):
		return fmt.Sprintf("%s gets nothing since %s; %d records wait", s.GetName(), since, s.GetQueued())
	}
	return fmt.Sprintf("%s does not work since %s", s.GetName(), since)
}
