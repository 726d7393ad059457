package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// pluginAction is a verb below plugins.
type pluginAction struct {
	name, short, long string
	action            wire.ControlRequest_Action
}

func pluginActions() []pluginAction {
	return []pluginAction{
		{"restart", "End a plugin and start it again", `End a plugin, if it runs, and start it at once. Its earlier failures are forgotten, so that one in a crash loop is tried now.
Nothing is lost: what it has not stored waits for it.`, wire.ControlRequest_RESTART},
		{"discard", "Give up what waits for a plugin", `Give up the records that wait for a plugin: for one whose backlog nobody wants any more. The plugin gets a gap in their
place, in order, and error.log says how many they were. What it is being given at that moment stays its own, and other
plugins get theirs.`, wire.ControlRequest_DISCARD},
		{"retry", "Hand a plugin again what it refused", `Hand a plugin the records again that it had refused, or died of, and that were set aside. They come as new records at the end
of what waits for it. Worth a try once the plugin has been mended.`, wire.ControlRequest_RETRY},
	}
}

// pluginActionVerb is plugins restart, discard or retry.
func (c *call) pluginActionVerb(a pluginAction) *cobra.Command {
	return &cobra.Command{
		Use: a.name + " NAME", Short: a.short, Long: a.long, Example: "  picosnitch plugins " + a.name + " sqlite",
		Args: one("name of a plugin"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.askDaemon(cmd.Context(), cmd, func(ctx context.Context, client *api.Client) error {
				text, err := client.Control(ctx, args[0], a.action)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.out, text)
				return err
			})
		},
	}
}

const pluginLogLong = `Show what a plugin said last, at most its last 200 lines, and how its last incarnations ended: when, how (exit code or
signal, out of memory), why in words, the memory that they took, and the last lines of each.`

// pluginLogVerb is plugins log.
func (c *call) pluginLogVerb() *cobra.Command {
	var asJSON bool
	verb := &cobra.Command{
		Use: "log NAME", Short: "Show what a plugin said, and how it ended", Long: pluginLogLong,
		Example: "  picosnitch plugins log sqlite\n  picosnitch plugins log sqlite --json | jq .ended",
		Args:    one("name of a plugin"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.askDaemon(cmd.Context(), cmd, func(ctx context.Context, client *api.Client) error {
				log, err := client.PluginLog(ctx, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(c.out, describeLog(log))
				}
				return printLog(c.out, log)
			})
		},
	}
	verb.Flags().BoolVar(&asJSON, "json", false, "answer as a JSON object")
	return verb
}

// logAnswer is the answer of plugins log. Its fields are those of --json.
type logAnswer struct {
	Lines []string      `json:"lines"` // newest last
	Ended []endedAnswer `json:"ended"` // newest last
}

// endedAnswer is one run of a plugin that is over. Times are RFC 3339.
type endedAnswer struct {
	Started     string   `json:"started"`
	Ended       string   `json:"ended"`
	PID         uint32   `json:"pid"`
	ExitCode    int32    `json:"exit_code"`
	Signal      string   `json:"signal"`
	OutOfMemory bool     `json:"out_of_memory"`
	Reason      string   `json:"reason"`
	PeakMemory  uint64   `json:"peak_memory"` // bytes; 0: not known
	Batch       uint64   `json:"batch"`       // first sequence of the batch under way; 0: none
	Tail        []string `json:"tail"`
}

func describeLog(log *wire.PluginLogResponse) logAnswer {
	a := logAnswer{Lines: printables(log.GetLines()), Ended: []endedAnswer{}}
	for _, e := range log.GetEnded() {
		a.Ended = append(a.Ended, endedAnswer{
			Started: instant(e.GetStarted()), Ended: instant(e.GetEnded()), PID: e.GetPid(), ExitCode: e.GetExitCode(),
			Signal: oneLine(e.GetSignal()), OutOfMemory: e.GetOutOfMemory(), Reason: oneLine(e.GetReason()),
			PeakMemory: e.GetPeakMemory(), Batch: e.GetBatch(), Tail: printables(e.GetTail()),
		})
	}
	return a
}

// printLog shows ended incarnations first, so that the newest lines stand last.
func printLog(out io.Writer, log *wire.PluginLogResponse) error {
	var lines []string
	for _, e := range log.GetEnded() {
		lines = append(lines, endingText(e))
		for _, line := range e.GetTail() {
			lines = append(lines, "    "+oneLine(line))
		}
	}
	lines = append(lines, printables(log.GetLines())...)
	if len(lines) == 0 {
		lines = []string{"it has said nothing, and never ended"}
	}
	_, err := io.WriteString(out, strings.Join(lines, "\n")+"\n")
	return err
}

// endingText tells in one line how a run ended, or that it did not come to one.
func endingText(e *wire.Incarnation) string {
	if e.GetPid() == 0 {
		return oneLine(localTime(e.GetEnded(), time.Local) + " could not be started: " + e.GetReason())
	}
	how := fmt.Sprintf("exit code %d", e.GetExitCode())
	if e.GetSignal() != "" {
		how = "signal " + e.GetSignal()
	}
	if e.GetOutOfMemory() {
		how += ", out of memory"
	}
	text := fmt.Sprintf("%s pid %d ended after %v: %s", localTime(e.GetEnded(), time.Local), e.GetPid(),
		time.Duration(e.GetEnded()-e.GetStarted()).Round(time.Millisecond), how)
	if e.GetReason() != "" {
		text += ": " + e.GetReason()
	}
	if e.GetPeakMemory() > 0 {
		text += fmt.Sprintf(" (%d MB at most)", e.GetPeakMemory()>>20)
	}
	return oneLine(text)
}
