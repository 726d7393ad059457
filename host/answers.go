package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/live"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// The daemon answers requests on host.sock.

// Status tells how the daemon is.
func (d *daemon) Status() *wire.StatusResponse {
	known, recorded, moved, named := d.table.Counters(), d.recorder.Counters(), d.canary.Counters(), d.names.Counters()
	s := &wire.StatusResponse{
		Pid: uint32(os.Getpid()), Version: version, Started: d.started.UnixNano(), ConfigDir: d.settings.ConfigDir,
		Counters: map[string]uint64{
			"processes": known.Processes, "executables": known.Executables, "open files": known.OpenFiles,
			"hashed": known.Hashed, "not hashed": known.NotHashed, "processes refused": known.Refused + known.RefusedShare,
			"windows": recorded.Windows, "flows": recorded.Flows, "rows": recorded.Rows,
			"bytes sent": recorded.Sent, "bytes received": recorded.Received,
			"ignored bytes sent": recorded.IgnoredSent, "ignored bytes received": recorded.IgnoredReceived,
			"canary exchanges": moved.Exchanges, "canary exchanges lost": moved.Lost, "canary flows": moved.Flows,
			"gaps": recorded.Gaps, "notices": recorded.Notices, "notices dropped": recorded.NoticesDropped, "folded rows": recorded.FoldedRows,
			"known entries": uint64(recorded.Known), "known entries forgotten": recorded.KnownForgotten, "known entries not kept": recorded.KnownFolded,
			"names": named.Facts, "names lost": named.AddressesLost + named.ConnectionsLost + named.StreamsLost,
		},
	}
	if d.marks != nil {
		s.Counters["file event overflows"] = d.marks.Counters().Overflows
	}
	if d.helpers != nil {
		s.Counters["helpers given up"] = d.helpers.Stats().GivenUp
	}
	wrong, remarks := d.inForce.messages()
	unseen, recent := d.gaps.messages()
	s.Messages = append(append(s.Messages, wrong...), unseen...)
	s.Messages = append(s.Messages, d.journalMessages(s.Counters)...)
	s.Messages = append(s.Messages, pluginMessages(d.supervisor.Status())...)
	s.Degraded = len(s.Messages) > 0
	s.Messages = append(append(s.Messages, remarks...), recent...)
	return s
}

// pluginMessages tell of plugins that do not do what they are there for.
func pluginMessages(plugins []*wire.PluginStatus) []string {
	var messages []string
	for _, p := range plugins {
		switch p.GetState() {
		case supervisor.StateRunning, supervisor.StateDisabled, supervisor.StateIdle, supervisor.StateDraining:
			continue
		case supervisor.StateStarting, supervisor.StateConfiguring: // nothing is wrong, unless it failed before
			if p.GetConsequence() == "" {
				continue
			}
		}
		text := fmt.Sprintf("plugin %s is %s: %s", p.GetName(), p.GetState(), p.GetLastError())
		if p.GetConsequence() != "" {
			text += " (" + p.GetConsequence() + ")"
		}
		messages = append(messages, text)
	}
	return messages
}

// Plugins tells how the plugins are.
func (d *daemon) Plugins() []*wire.PluginStatus { return d.supervisor.Status() }

// Query has a store answer.
func (d *daemon) Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	if store != "" && d.pluginStatus(store) == nil {
		return noPlugin(store)
	}
	return d.supervisor.Query(ctx, store, q, page)
}

// Watch is the live feed. It ends without an error when the daemon does.
func (d *daemon) Watch(ctx context.Context, r *wire.WatchRequest, page func(*wire.WatchPage) error) error {
	err := d.feed.Watch(ctx, r, page)
	switch {
	case errors.Is(err, live.ErrRequest):
		return fmt.Errorf("%w: %w", api.ErrQuestion, err)
	case errors.Is(err, live.ErrClosed):
		return nil
	}
	return err
}

// Use lets a call through to a plugin: the one of that name, or the usual one of its kind.
func (d *daemon) Use(ctx context.Context, kind, name string, call func(context.Context, *sdk.Client) error) error {
	all := d.supervisor.Status()
	if name == "" {
		name = usual(kind, all)
	}
	for _, p := range all {
		if p.GetName() != name {
			continue
		}
		if !slices.Contains(p.GetKinds(), kind) {
			return fmt.Errorf("%w: plugin %s is no %s", api.ErrQuestion, name, kind)
		}
		return d.supervisor.Use(ctx, name, call)
	}
	if name == "" {
		return fmt.Errorf("no %s runs: see picosnitch plugins", kind)
	}
	return noPlugin(name)
}

// usual names the plugin of a kind that answers when nobody chose another; "" when there is none.
func usual(kind string, all []*wire.PluginStatus) string {
	order := []string{"sqlite", "sqlserver"}
	for _, p := range all {
		order = append(order, p.GetName())
	}
	for _, name := range order {
		for _, p := range all {
			if p.GetName() == name && p.GetState() != supervisor.StateDisabled && slices.Contains(p.GetKinds(), kind) {
				return name
			}
		}
	}
	return ""
}
