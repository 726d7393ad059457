package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openSupervisor makes the plugins that the configuration enables ready to be started.
func (d *daemon) openSupervisor(context.Context) error {
	if err := linkDatabase(d.dir); err != nil {
		d.recorder.Error(err.Error())
		d.log.Warn("old database", "error", err)
	}
	var specs []supervisor.Spec
	for _, choice := range d.config.Plugins() {
		if spec, ok := d.spec(choice); ok {
			specs = append(specs, spec)
		}
	}
	if err := d.registerSinks(specs); err != nil {
		return err
	}
	var err error
	d.supervisor, err = supervisor.New(supervisor.Options{
		RunDir: d.settings.RunDir, HostID: d.state.hostID, BootID: d.bootID, Epoch: d.journal.Epoch(), UIDs: d.settings.UIDs,
		Feed:   func(sink string) (supervisor.Feed, error) { return d.journal.Cursor(sink) },
		Report: d.report, Log: d.log,
	}, specs)
	if err != nil {
		return fmt.Errorf("prepare plugins: %w", err)
	}
	return nil
}

// spec is a plugin as the supervisor needs it; false if it is not to be spoken of. A built-in one that an old key enables
// by default, and that this installation does not have, is no error.
func (d *daemon) spec(c config.PluginChoice) (supervisor.Spec, bool) {
	path, found := c.Path, true
	if path == "" {
		path, found = findPlugin(d.settings.PluginDirs, c.Name)
	}
	if !c.Enabled || (!found && !c.Explicit) {
		if c.Enabled {
			d.log.Info("plugin is not installed", "plugin", c.Name, "enabled by", c.OldKey)
		}
		return supervisor.Spec{}, false
	}
	network := c.Network.Peers
	if c.Network.Host {
		network = []string{"host"}
	}
	return supervisor.Spec{
		Name: c.Name, Path: path, SHA256: c.SHA256,
		Owner: process.Owner{UID: d.settings.Owner.UID, GID: d.settings.Owner.GID}, AsOwner: c.User != "",
		Network: network, Paths: c.Paths, MemoryMB: c.MemoryMB, DiskMB: c.DiskMB, Config: c.Config,
		Directory: filepath.Join(d.settings.ConfigDir, c.Name),
	}, true
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

// registerSinks gives every plugin a place in the journal before the first record is written, so that none is deleted that
// a plugin still starting up has to get, and lets go of what only plugins wait for that the configuration no longer names.
func (d *daemon) registerSinks(specs []supervisor.Spec) error {
	for _, spec := range specs {
		if _, err := d.journal.Cursor(spec.Name); err != nil {
			return fmt.Errorf("register sink %s: %w", spec.Name, err)
		}
	}
	for _, sink := range d.journal.Sinks() {
		if slices.ContainsFunc(specs, func(s supervisor.Spec) bool { return s.Name == sink }) {
			continue
		}
		if err := d.journal.Unregister(sink); err != nil {
			return fmt.Errorf("forget sink %s: %w", sink, err)
		}
	}
	return nil
}

// report takes what happens to plugins into the logs, and as gaps what sink and journal do not have in common.
func (d *daemon) report(e supervisor.Event) {
	level := slog.LevelInfo
	if e.Error != "" {
		level = slog.LevelWarn
		d.recorder.Error(fmt.Sprintf("plugin %s is %s: %s", e.Plugin, e.State, e.Error))
	}
	d.log.Log(context.Background(), level, "plugin", "name", e.Plugin, "state", e.State, "error", e.Error)
	for _, line := range e.Tail {
		d.log.Warn("plugin said", "name", e.Plugin, "line", line)
	}
	for _, mark := range e.Sought.RolledBack {
		d.recorder.Error(fmt.Sprintf("plugin %s holds records that the journal does not know: the journal, or the machine, "+
			"was set back to an earlier state", e.Plugin))
		d.pipeline.add(sinkGap(e.Plugin, &wire.Gap{
			Reason: wire.GapReason_GAP_JOURNAL_ROLLED_BACK, Cause: "the sink holds records that the journal does not know",
			Epoch: mark.Epoch[:], Last: mark.Sequence,
		}))
	}
	for _, span := range e.Sought.Lost {
		d.recorder.Error(fmt.Sprintf("plugin %s has gone back in time, lost %d entries", e.Plugin, span.Last-span.First+1))
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
