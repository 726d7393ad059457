package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openSupervisor makes the plugins that the configuration enables ready to be started.
func (d *daemon) openSupervisor(context.Context) error {
	choices, err := d.choices(d.inForce.get())
	if err != nil {
		return err
	}
	specs := d.specs(choices)
	d.linkFiles(specs)
	if err := errors.Join(d.registerSinks(specs), d.unregisterSinks()); err != nil {
		return err
	}
	if d.supervisor, err = supervisor.New(d.supervisorOptions(), specs); err != nil {
		return fmt.Errorf("prepare plugins: %w", err)
	}
	return nil
}

func (d *daemon) supervisorOptions() supervisor.Options {
	return supervisor.Options{
		RunDir: d.settings.RunDir, HostID: d.state.hostID, BootID: d.bootID, Epoch: d.journal.Epoch(), UIDs: d.settings.UIDs,
		Feed:   func(sink string) (supervisor.Feed, error) { return d.journal.Cursor(sink) },
		Report: d.report, Log: d.log, HostService: d.answerPlugin, Room: d.room, Gone: d.forgetSink,
	}
}

// choices are the plugins that the configuration speaks of. --plugins overrides, for this run, which of them are enabled.
func (d *daemon) choices(c config.Config) ([]config.PluginChoice, error) {
	choices := c.Plugins()
	if d.settings.Plugins == nil {
		return choices, nil
	}
	for i := range choices {
		choices[i].Enabled = slices.Contains(d.settings.Plugins, choices[i].Name)
		choices[i].Explicit = choices[i].Explicit || choices[i].Enabled
	}
	for _, name := range d.settings.Plugins {
		if !slices.ContainsFunc(choices, func(p config.PluginChoice) bool { return p.Name == name }) {
			return nil, fmt.Errorf("--plugins: %s is no built-in plugin, and \"Plugins\" in config.json does not name it", name)
		}
	}
	return choices, nil
}

// specs are the plugins to be started. One that cannot be meant is told, and left out: the others run.
func (d *daemon) specs(choices []config.PluginChoice) []supervisor.Spec {
	var specs []supervisor.Spec
	var refused []string
	for _, choice := range choices {
		spec, ok, err := d.spec(choice)
		if ok && err == nil {
			_, err = supervisor.New(supervisor.Options{RunDir: d.settings.RunDir, UIDs: d.settings.UIDs}, []supervisor.Spec{spec})
		}
		switch {
		case err != nil:
			refused = append(refused, fmt.Sprintf("config.json: Plugins.%s: %s: it is not started", choice.Name, oneLine(err.Error())))
		case ok:
			specs = append(specs, spec)
		}
	}
	for _, text := range refused {
		d.log.Warn("plugin refused", "why", text)
		d.fault(text)
	}
	d.inForce.refuse(refused)
	return specs
}

// spec is a plugin as the supervisor needs it; false if it is not to be spoken of. A built-in one that an old key enables,
// and that this installation does not have, is an error only if records are lost for it.
func (d *daemon) spec(c config.PluginChoice) (supervisor.Spec, bool, error) {
	path, found := c.Path, true
	if path == "" {
		path, found = findPlugin(d.settings.PluginDirs, c.Name)
	}
	switch {
	case !c.Enabled:
		return supervisor.Spec{}, false, nil
	case !found && !c.Explicit && keepsRecords(c.Name):
		return supervisor.Spec{}, true, fmt.Errorf("%q asks for it, and %s is not installed", c.OldKey, path)
	case !found && !c.Explicit:
		d.log.Info("plugin is not installed", "plugin", c.Name, "enabled by", c.OldKey)
		return supervisor.Spec{}, false, nil
	}
	if err := ownUser(c.User, d.settings.Owner); err != nil {
		return supervisor.Spec{}, true, err
	}
	network := c.Network.Peers
	if c.Network.Host {
		network = []string{"host"}
	}
	return supervisor.Spec{
		Name: c.Name, Path: path, SHA256: c.SHA256,
		Owner: process.Owner{UID: d.settings.Owner.UID, GID: d.settings.Owner.GID}, AsOwner: c.User != "",
		Network: network, Paths: c.Paths, MemoryMB: c.MemoryMB, DiskMB: c.DiskMB, Config: c.Config,
		Directory: filepath.Join(d.settings.ConfigDir, c.Name), Kinds: builtinKinds(c.Name), Listen: c.Listen,
		OnDemand: c.OnDemand, IdleAfter: time.Duration(c.IdleSeconds) * time.Second,
	}, true, nil
}

// ownUser refuses every user but the configuration's owner, by name or number: whoever edits the file gets no other's
// rights by it.
func ownUser(user string, owner home.Owner) error {
	if user == "" || user == strconv.FormatUint(uint64(owner.UID), 10) {
		return nil
	}
	known, err := home.SystemUsers().ByUID(context.Background(), owner.UID) // bounded by itself
	if err != nil || known.Name != user {
		return errors.New("user: must be the owner of config.json, or left out for a user of its own")
	}
	return nil
}

// builtinKinds is what a built-in plugin is before it has described itself; nil is not known.
func builtinKinds(name string) []string {
	switch name {
	case "sqlite", "sqlserver":
		return []string{"sink", "store"}
	case "textlog", "notify":
		return []string{"sink"}
	case "virustotal":
		return []string{"verdicts"}
	case "geoip":
		return []string{"locator"}
	}
	return nil
}

// keepsRecords tells whether a built-in plugin is where records end up.
func keepsRecords(name string) bool {
	return slices.Contains([]string{"sqlite", "sqlserver", "textlog"}, name)
}

// findPlugin looks for a plugin's binary; without one it gives where it should be.
func findPlugin(dirs []string, name string) (string, bool) {
	for _, dir := range dirs {
		path := filepath.Join(dir, "picosnitch-plugin-"+name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, true
		}
	}
	if len(dirs) == 0 {
		return "", false
	}
	return filepath.Join(dirs[len(dirs)-1], "picosnitch-plugin-"+name), false
}

// roster is the plugins that are to run, or may run on demand. Its zero value is ready to use.
type roster struct {
	mu    sync.Mutex // held while sinks are registered with the journal, or forgotten, by what stands here
	specs []supervisor.Spec
}

// registerSinks gives every plugin that may be a sink a place in the journal before the first record is written, so that
// none is deleted that a plugin still starting up has to get.
func (d *daemon) registerSinks(specs []supervisor.Spec) error {
	d.roster.mu.Lock()
	defer d.roster.mu.Unlock()
	d.roster.specs = specs
	for _, spec := range specs {
		if !maybeSink(d.kindsOf(spec)) {
			continue
		}
		if _, err := d.journal.Cursor(spec.Name); err != nil {
			return fmt.Errorf("register sink %s: %w", spec.Name, err)
		}
	}
	return nil
}

// unregisterSinks lets go of what only plugins wait for that the configuration no longer names. None of them runs.
func (d *daemon) unregisterSinks() error {
	for _, sink := range d.journal.Sinks() {
		if err := d.unregisterSink(sink); err != nil {
			return err
		}
	}
	return nil
}

// forgetSink is unregisterSinks for a plugin that has just ended.
func (d *daemon) forgetSink(plugin string) {
	if err := d.unregisterSink(plugin); err != nil && !errors.Is(err, journal.ErrClosed) { // the next start does it
		d.fault("configuration: " + err.Error())
	}
}

func (d *daemon) unregisterSink(name string) error {
	d.roster.mu.Lock()
	defer d.roster.mu.Unlock()
	if d.isAwaited(name) || !slices.Contains(d.journal.Sinks(), name) {
		return nil
	}
	if err := d.journal.Unregister(name); err != nil {
		return fmt.Errorf("forget sink %s: %w", name, err)
	}
	return nil
}

// isAwaited tells whether what waits for a sink is kept: it is to run; or the configuration enables it, and it does not run
// because it cannot be meant, is not installed, or is left out for this run.
func (d *daemon) isAwaited(sink string) bool {
	if i := slices.IndexFunc(d.roster.specs, called(sink)); i >= 0 {
		return maybeSink(d.kindsOf(d.roster.specs[i]))
	}
	enabled := func(p config.PluginChoice) bool { return p.Name == sink && p.Enabled }
	return slices.ContainsFunc(d.inForce.get().Plugins(), enabled)
}

func called(name string) func(supervisor.Spec) bool {
	return func(s supervisor.Spec) bool { return s.Name == name }
}

// kindsOf is what a plugin is, as it has said or as is known of it; nil is not known.
func (d *daemon) kindsOf(spec supervisor.Spec) []string {
	if d.supervisor != nil && len(spec.Kinds) == 0 {
		return d.pluginStatus(spec.Name).GetKinds()
	}
	return spec.Kinds
}

// maybeSink tells whether a plugin of these kinds takes batches; one whose kinds are not known may.
func maybeSink(kinds []string) bool { return len(kinds) == 0 || slices.Contains(kinds, "sink") }

// letGo has the journal wait no longer for a plugin that turned out to be no sink.
func (d *daemon) letGo(plugin string) {
	status := d.pluginStatus(plugin)
	if status == nil || maybeSink(status.GetKinds()) || !slices.Contains(d.journal.Sinks(), plugin) {
		return
	}
	if err := d.journal.Unregister(plugin); err != nil {
		d.log.Warn("forget a plugin that is no sink", "plugin", plugin, "error", err)
	}
}

// pluginStatus is how one plugin does; nil when there is none of that name.
func (d *daemon) pluginStatus(name string) *wire.PluginStatus {
	for _, p := range d.supervisor.Status() {
		if p.GetName() == name {
			return p
		}
	}
	return nil
}

// stateText tells why a plugin is not what it should be. Of one that is started again it has the words of 1.0.3.
func stateText(e supervisor.Event) string {
	if e.State == supervisor.StateBackoff {
		return fmt.Sprintf("plugin %s died, attempting restart: %s", e.Plugin, e.Error)
	}
	return fmt.Sprintf("plugin %s is %s: %s", e.Plugin, e.State, e.Error)
}

// report takes what happens to plugins into the logs, and as gaps what sink and journal do not have in common.
func (d *daemon) report(e supervisor.Event) {
	if e.State == supervisor.StateRunning {
		d.letGo(e.Plugin)
	}
	level := slog.LevelInfo
	if e.Error != "" {
		level = slog.LevelWarn
		d.fault(stateText(e))
	}
	d.log.Log(context.Background(), level, "plugin", "name", e.Plugin, "state", e.State, "error", e.Error)
	for _, line := range e.Tail {
		d.log.Warn("plugin said", "name", e.Plugin, "line", line)
	}
	for _, mark := range e.Sought.RolledBack {
		d.fault(fmt.Sprintf("plugin %s holds records that the journal does not know: the journal, or the machine, "+
			"was set back to an earlier state", e.Plugin))
		d.pipeline.add(sinkGap(e.Plugin, &wire.Gap{
			Reason: wire.GapReason_GAP_JOURNAL_ROLLED_BACK, Cause: "the sink holds records that the journal does not know",
			Epoch: mark.Epoch[:], Last: mark.Sequence,
		}))
	}
	for _, span := range e.Sought.Lost {
		d.fault(fmt.Sprintf("plugin %s has gone back in time, lost %d entries", e.Plugin, span.Last-span.First+1))
		d.pipeline.add(sinkGap(e.Plugin, &wire.Gap{
			Reason: wire.GapReason_GAP_QUEUE_DROPPED, Cause: "the sink went back in time", Events: span.Last - span.First + 1,
			Epoch: span.Epoch[:], First: span.First, Last: span.Last,
		}))
	}
	// A record that the sink refused was given to it as a Gap in the same place already.
}

func sinkGap(sink string, g *wire.Gap) *wire.Record {
	g.Sink = sink
	g.Start = time.Now().UnixNano()
	g.End = g.Start
	return &wire.Record{Kind: &wire.Record_Gap{Gap: g}}
}
