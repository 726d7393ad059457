package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const pluginsLong = `List the plugins of the running daemon: what each of them is, how it does, as which process and user it runs, how often it
was restarted, the last record that it acknowledged, how many records wait for it, and the last error.

States are disabled, blocked (only a change of its file or configuration helps), starting, configuring, running, degraded
(it runs, but what lies behind it does not work), backoff (it crashed and waits to be started again) and stopped. It is for
root, the owner of the configuration and members of group picosnitch. With --json there is more: versions, paths, hashes,
what the sandbox enforces.`

// pluginsVerb is plugins.
func (c *call) pluginsVerb() *cobra.Command {
	var asJSON bool
	verb := &cobra.Command{
		Use: "plugins", Short: "List the plugins and how they do", Long: pluginsLong,
		Example: "  picosnitch plugins\n  picosnitch plugins --json | jq '.[] | select(.state != \"running\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.plugins(cmd.Context(), asJSON)
			if errors.Is(err, api.ErrNotRunning) {
				err = api.ErrNotRunning
			}
			if err != nil {
				return fmt.Errorf("plugins: %w", err)
			}
			return nil
		},
	}
	verb.Flags().BoolVar(&asJSON, "json", false, "answer as a JSON array")
	return verb
}

func (c *call) plugins(ctx context.Context, asJSON bool) error {
	runDir, err := c.runDir()
	if err != nil {
		return err
	}
	client, err := api.Dial(runDir)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	list, err := client.Plugins(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(c.out, describeAll(list))
	}
	return printPlugins(c.out, list)
}

// pluginLine is a plugin in --json. Times are RFC 3339, "" when there is none.
type pluginLine struct {
	Name         string   `json:"name"`
	Kinds        []string `json:"kinds"`
	Version      string   `json:"version"`
	State        string   `json:"state"`
	Since        string   `json:"since"`
	PID          uint32   `json:"pid"`
	UID          uint32   `json:"uid"`
	Restarts     uint32   `json:"restarts"`
	Epoch        string   `json:"epoch"` // of the acknowledged record, hexadecimal
	Acknowledged uint64   `json:"acknowledged"`
	Queued       uint64   `json:"queued"`
	LastError    string   `json:"last_error"`
	Consequence  string   `json:"consequence"`
	Path         string   `json:"path"`
	SHA256       string   `json:"sha256"`
	Sandbox      []string `json:"sandbox"`
	NextStart    string   `json:"next_start"`
}

func describeAll(list []*wire.PluginStatus) []pluginLine {
	lines := make([]pluginLine, 0, len(list))
	for _, p := range list {
		lines = append(lines, pluginLine{
			Name: oneLine(p.GetName()), Kinds: printables(p.GetKinds()), Version: oneLine(p.GetVersion()),
			State: oneLine(p.GetState()), Since: instant(p.GetSince()), PID: p.GetPid(), UID: p.GetUid(),
			Restarts: p.GetRestarts(), Epoch: hex.EncodeToString(p.GetEpoch()),
			Acknowledged: p.GetAcknowledged(), Queued: p.GetQueued(),
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
		{title: "name"}, {title: "kind"}, {title: "state"}, {"pid", true}, {"uid", true}, {"restarts", true},
		{"acknowledged", true}, {"queued", true}, {title: "last error"},
	}
	var rows [][]string
	var consequences []string
	for _, p := range describeAll(list) {
		pid, uid := "-", "-"
		if p.PID != 0 {
			pid, uid = strconv.FormatUint(uint64(p.PID), 10), strconv.FormatUint(uint64(p.UID), 10)
		}
		rows = append(rows, []string{
			p.Name, strings.Join(p.Kinds, ","), p.State, pid, uid, strconv.FormatUint(uint64(p.Restarts), 10),
			strconv.FormatUint(p.Acknowledged, 10), strconv.FormatUint(p.Queued, 10), p.LastError,
		})
		if p.Consequence != "" {
			consequences = append(consequences, p.Name+": "+p.Consequence)
		}
	}
	if err := writeTable(out, headings, rows); err != nil {
		return err
	}
	for _, line := range consequences {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
