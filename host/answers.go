package main

import (
	"context"
	"fmt"
	"os"

	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// The daemon answers requests on host.sock.

// Status tells how the daemon is.
func (d *daemon) Status() *wire.StatusResponse {
	known, recorded, moved := d.table.Counters(), d.recorder.Counters(), d.canary.Counters()
	s := &wire.StatusResponse{
		Pid: uint32(os.Getpid()), Version: version, Started: d.started.UnixNano(), ConfigDir: d.settings.ConfigDir,
		Counters: map[string]uint64{
			"processes": known.Processes, "executables": known.Executables, "open files": known.OpenFiles,
			"hashed": known.Hashed, "not hashed": known.NotHashed, "processes refused": known.Refused,
			"windows": recorded.Windows, "flows": recorded.Flows, "rows": recorded.Rows,
			"bytes sent": recorded.Sent, "bytes received": recorded.Received,
			"ignored bytes sent": recorded.IgnoredSent, "ignored bytes received": recorded.IgnoredReceived,
			"canary exchanges": moved.Exchanges, "canary exchanges lost": moved.Lost, "canary flows": moved.Flows,
			"gaps": recorded.Gaps, "notices": recorded.Notices, "folded rows": recorded.FoldedRows,
		},
	}
	s.Messages = append(s.Messages, d.problems...)
	unseen, recent := d.gaps.messages()
	s.Messages = append(s.Messages, unseen...)
	s.Degraded = len(d.problems)+len(unseen) > 0
	for _, p := range d.supervisor.Status() {
		switch p.GetState() {
		case supervisor.StateRunning, supervisor.StateStarting, supervisor.StateConfiguring, supervisor.StateDisabled:
		default:
			s.Degraded = true
			s.Messages = append(s.Messages, fmt.Sprintf("plugin %s is %s: %s", p.GetName(), p.GetState(), p.GetLastError()))
		}
	}
	s.Messages = append(s.Messages, recent...)
	return s
}

// Plugins tells how the plugins are.
func (d *daemon) Plugins() []*wire.PluginStatus { return d.supervisor.Status() }

// Query has a store answer.
func (d *daemon) Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	return d.supervisor.Query(ctx, store, q, page)
}
