package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Control acts on one plugin, and says what it did.
func (d *daemon) Control(ctx context.Context, r *wire.ControlRequest) (string, error) {
	name := r.GetPlugin()
	if d.pluginStatus(name) == nil {
		return "", noPlugin(name)
	}
	text, err := d.act(ctx, name, r.GetAction())
	if errors.Is(err, journal.ErrNoSink) {
		err = fmt.Errorf("%w: plugin %s is no sink: nothing waits for it", api.ErrQuestion, name)
	}
	if err == nil {
		d.log.Info("plugin controlled", "name", name, "did", text)
	}
	return text, err
}

// answerTime is what a plugin has to answer a call before what it was given counts as its own.
const answerTime = 3 * time.Second

func (d *daemon) act(ctx context.Context, name string, action wire.ControlRequest_Action) (string, error) {
	switch action {
	case wire.ControlRequest_RESTART:
		if err := d.supervisor.Restart(name); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s is being restarted; its earlier failures are forgotten", name), nil
	case wire.ControlRequest_DISCARD:
		brief, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		records, err := d.journal.Discard(brief, name)
		if err != nil {
			return "", err
		}
		if records == 0 {
			return fmt.Sprintf("nothing waited for %s", name), nil
		}
		d.fault(fmt.Sprintf("the backlog of plugin %s was given up on request, lost %d entries", name, records))
		return fmt.Sprintf("%d records that waited for %s were given up; it gets a gap in their place", records, name), nil
	case wire.ControlRequest_RETRY:
		records, err := d.journal.Retry(name)
		if err != nil {
			return "", err
		}
		if records == 0 {
			return fmt.Sprintf("nothing was set aside for %s", name), nil
		}
		return fmt.Sprintf("%d records that %s had refused are handed to it again", records, name), nil
	}
	return "", fmt.Errorf("%w: there is no action %d", api.ErrQuestion, action)
}

func noPlugin(name string) error {
	return fmt.Errorf("%w: no plugin is called %.40q: see picosnitch plugins", api.ErrQuestion, name)
}

// PluginLog gives what a plugin said last.
func (d *daemon) PluginLog(_ context.Context, plugin string) (*wire.PluginLogResponse, error) {
	if d.pluginStatus(plugin) == nil {
		return nil, noPlugin(plugin)
	}
	return d.supervisor.Log(plugin)
}

// answerPlugin serves a plugin on its own socket until it ends.
func (d *daemon) answerPlugin(plugin string, l net.Listener) (stop func()) {
	server, err := api.ServePlugin(l, plugin, func() api.Grants { return d.grants(plugin) }, d, d.log)
	if err != nil {
		d.log.Warn("plugin cannot ask the host", "plugin", plugin, "error", err)
		return func() { _ = l.Close() }
	}
	return func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // the plugin has gone: nobody waits for answers
		if err := server.Close(ctx); err != nil {
			d.log.Warn("end the plugin's socket", "plugin", plugin, "error", err)
		}
	}
}

// grants is what a plugin may ask: by what it is, and by what the configuration says.
func (d *daemon) grants(plugin string) api.Grants {
	g := api.Grants{Kinds: d.pluginStatus(plugin).GetKinds()}
	for _, p := range d.inForce.get().Plugins() {
		if p.Name == plugin {
			g.Executables = p.Executables
		}
	}
	return g
}

// room is for how long the journal can keep what a sink does not take, by what it took so far; 0 is not known.
func (d *daemon) room(sink string) time.Duration {
	s, err := d.backlogs.get(d.journal.Stats)
	if err != nil {
		return 0
	}
	waiting, ok := s.Sinks[sink]
	maxAge := time.Duration(d.inForce.get().Host.JournalDays) * 24 * time.Hour
	return roomFor(waiting, s.Quota-s.Live, maxAge, time.Since(waiting.Oldest), ok)
}

// roomFor goes by how fast the backlog grew in its age. A young one says nothing.
func roomFor(waiting journal.SinkStats, free int64, maxAge, age time.Duration, known bool) time.Duration {
	if !known || waiting.Bytes == 0 || waiting.Oldest.IsZero() || age < time.Minute {
		return 0
	}
	left := max(maxAge-age, 0)
	bytesPerSecond := float64(waiting.Bytes) / age.Seconds()
	if seconds := float64(max(free, 0)) / bytesPerSecond; seconds < left.Seconds() {
		return time.Duration(seconds * float64(time.Second))
	}
	return left
}

// journalMessages tell what is wrong with the journal, and add its counters.
func (d *daemon) journalMessages(counters map[string]uint64) []string {
	s, err := d.backlogs.get(d.journal.Stats)
	if err != nil {
		return []string{"journal: " + oneLine(err.Error())}
	}
	counters["journal bytes"] = uint64(max(s.Live, 0))
	var dropped, aside uint64
	for _, sink := range s.Sinks {
		dropped += sink.Dropped.Total()
		aside += uint64(max(sink.AsideRecords, 0))
	}
	counters["records dropped"], counters["records set aside"] = dropped, aside
	return journalTrouble(s)
}

// journalTrouble is what a person has to do something about.
func journalTrouble(s journal.Stats) []string {
	switch {
	case s.Full != nil:
		return []string{"journal: " + oneLine(s.Full.Error()) + "; what is counted waits in the kernel"}
	case !s.Reserve:
		return []string{"journal: no room for " + journal.ReserveName + " in the state directory: once its disk is full, nothing there can be cleared away"}
	}
	return nil
}

// backlogs remembers the journal's state for a moment: telling it means to read a part of everything that waits, and one
// status asks for each plugin.
type backlogs struct {
	mu    sync.Mutex
	at    time.Time
	stats journal.Stats
	err   error
}

// backlogsFor is how long the state is good enough.
const backlogsFor = time.Second

func (b *backlogs) get(ask func() (journal.Stats, error)) (journal.Stats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() || time.Since(b.at) > backlogsFor {
		b.stats, b.err = ask()
		b.at = time.Now()
	}
	return b.stats, b.err
}
