package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// askTime bounds a question that the daemon answers from memory.
const askTime = 5 * time.Second

const statusLong = `Tell whether picosnitch runs, and what is wrong if something is. Everybody may ask; names are shown to root, the owner of
the configuration and members of group picosnitch.

The exit code is 0 if the question could be answered. With --check it tells the answer: 0 running, 3 stopped, 4 running but
degraded (something is not watched, not stored, or the daemon does not answer).`

const statusExample = `  picosnitch status
  picosnitch status --json
  picosnitch status --check > /dev/null || echo "look after picosnitch"`

// statusVerb is status.
func (c *call) statusVerb() *cobra.Command {
	var asJSON, check bool
	verb := &cobra.Command{
		Use: "status", Short: "Tell whether picosnitch runs", Long: statusLong, Example: statusExample,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runDir, err := c.runDir()
			if err != nil {
				return err
			}
			s, err := findStatus(cmd.Context(), runDir)
			if err != nil {
				return fmt.Errorf("status: %w", err)
			}
			if asJSON {
				err = writeJSON(c.out, s)
			} else {
				err = s.print(c.out, time.Local)
			}
			if err != nil {
				return fmt.Errorf("status: %w", err)
			}
			if code := s.code(); check && code != exitOK {
				return &exitError{code: code}
			}
			return nil
		},
	}
	verb.Flags().BoolVar(&asJSON, "json", false, "answer as a JSON object")
	verb.Flags().BoolVar(&check, "check", false, "exit with 3 if stopped, 4 if degraded")
	return verb
}

// statusAnswer is the answer of status. Its fields are those of --json.
type statusAnswer struct {
	Running   bool              `json:"running"`
	PID       int               `json:"pid,omitempty"`
	Version   string            `json:"version,omitempty"`
	Started   string            `json:"started,omitempty"` // RFC 3339
	Degraded  bool              `json:"degraded"`
	Messages  []string          `json:"messages,omitempty"` // what is wrong
	ConfigDir string            `json:"config_dir,omitempty"`
	Counters  map[string]uint64 `json:"counters,omitempty"`

	started int64 // as in Started, UTC nanoseconds
	stale   bool  // a pid file names nobody
}

// findStatus asks the daemon, and if it does not answer, the lock.
func findStatus(ctx context.Context, runDir string) (statusAnswer, error) {
	s, err := askStatus(ctx, runDir)
	if err == nil {
		return fromWire(s), nil
	}
	pid, lockErr := holder(runDir)
	named := readPid(filepath.Join(runDir, pidName))
	if errors.Is(lockErr, fs.ErrPermission) { // not for us to ask; but a daemon that runs listens
		pid, lockErr = 0, nil
		if alive(named) && !errors.Is(err, api.ErrNotRunning) {
			pid = named
		}
	}
	var unseen *runningError
	if lockErr != nil && !errors.As(lockErr, &unseen) {
		return statusAnswer{}, lockErr
	}
	if pid == 0 && unseen == nil {
		return statusAnswer{stale: named != 0}, nil
	}
	why := "it does not answer"
	if !errors.Is(err, api.ErrSilent) {
		why += ": " + oneLine(err.Error())
	}
	return statusAnswer{Running: true, PID: pid, Degraded: true, Messages: []string{why}}, nil
}

func askStatus(ctx context.Context, runDir string) (*wire.StatusResponse, error) {
	client, err := api.Dial(runDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return client.Status(ctx)
}

// alive tells whether a pid is in use.
func alive(pid int) bool {
	if pid == 0 {
		return false
	}
	_, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid)))
	return err == nil
}

func fromWire(s *wire.StatusResponse) statusAnswer {
	a := statusAnswer{
		Running: true, PID: int(s.GetPid()), Version: s.GetVersion(), Started: instant(s.GetStarted()),
		Degraded: s.GetDegraded(), ConfigDir: s.GetConfigDir(), Counters: s.GetCounters(), started: s.GetStarted(),
	}
	for _, m := range s.GetMessages() {
		a.Messages = append(a.Messages, oneLine(m))
	}
	return a
}

func (a statusAnswer) code() int {
	switch {
	case !a.Running:
		return exitStopped
	case a.Degraded:
		return exitDegraded
	}
	return exitOK
}

// print shows it to a person, first in the words of 1.0.3.
func (a statusAnswer) print(out io.Writer, zone *time.Location) error {
	var lines []string
	switch {
	case a.Running && a.PID == 0:
		lines = append(lines, "picosnitch is currently running, with a pid that cannot be seen from here.")
	case a.Running:
		lines = append(lines, fmt.Sprintf("picosnitch is currently running with pid %d.", a.PID))
	case a.stale:
		lines = append(lines, "pidfile exists however picosnitch was not detected.")
	default:
		lines = append(lines, "picosnitch does not appear to be running.")
	}
	if a.Version != "" {
		lines = append(lines, fmt.Sprintf("version %s, started %s", sdk.EscapeString(a.Version), localTime(a.started, zone)))
	}
	if a.ConfigDir != "" {
		lines = append(lines, "config and log files: "+oneLine(a.ConfigDir))
	}
	if a.Degraded {
		lines = append(lines, "degraded: not everything works")
	}
	for _, m := range a.Messages {
		lines = append(lines, "  "+m)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Counters)) {
		lines = append(lines, fmt.Sprintf("%s: %d", sdk.EscapeString(name), a.Counters[name]))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
