package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const pluginsLong = `List the plugins of the running daemon: what each of them is, how it does, as which process and user it runs, how often it
was restarted since the start and in the last 24 hours, how many records wait for it, and under the table what its state
means: what is not done, since when, how long there is room for what waits, and the last error.

States are disabled, blocked (only a change of its file or configuration helps), starting, configuring, running, degraded
(it runs, but what lies behind it does not work), backoff (it failed and waits to be started again), crash_loop (it keeps
failing, and is tried ever more rarely), idle (it is started when somebody asks it), draining and stopped.

Below it: restart, log, discard, retry. All of it is for root, the owner of the configuration and members of group picosnitch.
With --json there is more: versions, paths, hashes, what the sandbox enforces.`

const pluginsExample = `  picosnitch plugins
  picosnitch plugins --json | jq '.[] | select(.state != "running")'
  picosnitch plugins log sqlite
  picosnitch plugins restart sqlite`

// pluginsVerb is plugins.
func (c *call) pluginsVerb() *cobra.Command {
	var asJSON bool
	verb := &cobra.Command{
		Use: "plugins", Short: "List the plugins and how they do", Long: pluginsLong, Example: pluginsExample,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.askDaemon(cmd.Context(), cmd, func(ctx context.Context, client *api.Client) error {
				list, err := client.Plugins(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(c.out, describeAll(list))
				}
				return printPlugins(c.out, list)
			})
		},
	}
	verb.Flags().BoolVar(&asJSON, "json", false, "answer as a JSON array")
	verb.AddCommand(c.pluginLogVerb())
	for _, action := range pluginActions() {
		verb.AddCommand(c.pluginActionVerb(action))
	}
	return verb
}

// askDaemon asks the running daemon something that it answers from memory. Errors begin with the verb.
func (c *call) askDaemon(ctx context.Context, cmd *cobra.Command, ask func(context.Context, *api.Client) error) error {
	runDir, err := c.runDir()
	if err != nil {
		return err
	}
	client, err := api.Dial(runDir)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		err = ask(ctx, client)
		cancel()
		_ = client.Close()
	}
	switch {
	case errors.Is(err, api.ErrNotRunning):
		return fmt.Errorf("%s: %w", verbPath(cmd), api.ErrNotRunning)
	case errors.Is(err, api.ErrQuestion):
		return &exitError{code: exitUsage, err: fmt.Errorf("%s: %w", verbPath(cmd), err)}
	case err != nil:
		return fmt.Errorf("%s: %w", verbPath(cmd), err)
	}
	return nil
}

// pluginLine is a plugin in --json. Times are RFC 3339, "" when there is none.
type pluginLine struct {
	Name         string            `json:"name"`
	Kinds        []string          `json:"kinds"`
	Version      string            `json:"version"`
	State        string            `json:"state"`
	Since        string            `json:"since"`
	PID          uint32            `json:"pid"`
	UID          uint32            `json:"uid"`
	Restarts     uint32            `json:"restarts"`
	LastDay      uint32            `json:"restarts_24h"`
	Epoch        string            `json:"epoch"` // of the acknowledged record, hexadecimal
	Acknowledged uint64            `json:"acknowledged"`
	Queued       uint64            `json:"queued"`
	QueuedBytes  uint64            `json:"queued_bytes"`
	Oldest       string            `json:"oldest"`     // of the records that wait
	SetAside     uint64            `json:"set_aside"`  // records that it refused, kept to be retried
	Dropped      uint64            `json:"dropped"`    // records given up for it since the daemon started
	DroppedBy    map[string]uint64 `json:"dropped_by"` // the same by cause
	LastError    string            `json:"last_error"`
	Consequence  string            `json:"consequence"`
	Path         string            `json:"path"`
	SHA256       string            `json:"sha256"`
	Sandbox      []string          `json:"sandbox"`
	NextStart    string            `json:"next_start"`
}

func describeAll(list []*wire.PluginStatus) []pluginLine {
	lines := make([]pluginLine, 0, len(list))
	for _, p := range list {
		lines = append(lines, pluginLine{
			Name: oneLine(p.GetName()), Kinds: printables(p.GetKinds()), Version: oneLine(p.GetVersion()),
			State: oneLine(p.GetState()), Since: instant(p.GetSince()), PID: p.GetPid(), UID: p.GetUid(),
			Restarts: p.GetRestarts(), LastDay: p.GetRecentRestarts(), QueuedBytes: p.GetQueuedBytes(),
			Oldest: instant(p.GetOldest()), SetAside: p.GetSetAside(), Dropped: p.GetDropped(), Epoch: hex.EncodeToString(p.GetEpoch()),
			Acknowledged: p.GetAcknowledged(), Queued: p.GetQueued(), DroppedBy: droppedBy(p),
			LastError: oneLine(p.GetLastError()), Consequence: oneLine(p.GetConsequence()),
			Path: sdk.EscapeString(p.GetPath()), SHA256: oneLine(p.GetSha256()),
			Sandbox: printables(p.GetSandbox()), NextStart: instant(p.GetNextStart()),
		})
	}
	return lines
}

func printables(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = oneLine(t)
	}
	return out
}

// printPlugins writes a line for each plugin, and under it what its state means.
func printPlugins(out io.Writer, list []*wire.PluginStatus) error {
	headings := []heading{
		{title: "name"}, {title: "kind"}, {title: "state"}, {"pid", true}, {"uid", true}, {"restarts", true}, {"24h", true},
		{"waiting", true}, {"backlog", true}, {title: "since"},
	}
	var rows [][]string
	var below []string
	for _, p := range list {
		pid, uid := "-", "-"
		if p.GetPid() != 0 {
			pid, uid = strconv.FormatUint(uint64(p.GetPid()), 10), strconv.FormatUint(uint64(p.GetUid()), 10)
		}
		rows = append(rows, []string{
			oneLine(p.GetName()), strings.Join(printables(p.GetKinds()), ","), oneLine(p.GetState()), pid, uid,
			strconv.FormatUint(uint64(p.GetRestarts()), 10), strconv.FormatUint(uint64(p.GetRecentRestarts()), 10),
			strconv.FormatUint(p.GetQueued(), 10), kilobytes(p.GetQueuedBytes()), localTime(p.GetSince(), time.Local),
		})
		below = append(below, remarksOn(p)...)
	}
	if err := writeTable(out, headings, rows); err != nil {
		return err
	}
	for _, line := range below {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// remarksOn are the lines under the table: what a plugin's state means.
func remarksOn(p *wire.PluginStatus) []string {
	var lines []string
	say := func(format string, args ...any) {
		lines = append(lines, oneLine(p.GetName()+": "+fmt.Sprintf(format, args...)))
	}
	if p.GetConsequence() != "" {
		say("%s", p.GetConsequence())
	}
	if p.GetLastError() != "" {
		say("last error: %s", p.GetLastError())
	}
	if p.GetNextStart() != 0 {
		say("is started again at %s; picosnitch plugins restart %s does it now", localTime(p.GetNextStart(), time.Local), p.GetName())
	}
	if p.GetSetAside() > 0 {
		say("%d records that it refused are kept: picosnitch plugins retry %s hands them over again", p.GetSetAside(), p.GetName())
	}
	if p.GetDropped() > 0 {
		var causes []string
		by := droppedBy(p)
		for _, cause := range slices.Sorted(maps.Keys(by)) {
			causes = append(causes, fmt.Sprintf("%s: %d", cause, by[cause]))
		}
		say("%d records do not reach it (%s); it gets gaps in their place", p.GetDropped(), strings.Join(causes, ", "))
	}
	return lines
}

// droppedBy is never nil: JSON has an object.
func droppedBy(p *wire.PluginStatus) map[string]uint64 {
	by := make(map[string]uint64)
	for cause, records := range p.GetDroppedBy() {
		by[oneLine(cause)] = records
	}
	return by
}
