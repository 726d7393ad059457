package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const eventsLong = `Show what is going on, as it happens, until it is interrupted (^C, exit code 0) or the daemon ends (exit code 3). It is for
root, the owner of the configuration and members of group picosnitch.

--kinds names what to show, separated by commas: flows (every flow that moved something since the last look, with bytes per
second), execs (programs that were executed; only with "Every exe (not just conns)"), notices and gaps. What "Log ignore"
and the other "Log" keys keep out of the history is not shown either. --interval is the time between two looks at flows.

With --json each line is an object with "time" (RFC 3339, UTC) and "kind":
  flow    sent_rate and received_rate in bytes/s, sent, received, sends and receives since the window began, direction, result,
          protocol, laddr, lport, raddr, rport, domain (written from the top), domains (all names of raddr: domain and source
          of each), and of the process: exe, name, cmdline, sha256, pid, uid, pexe, pname, gexe, unit, container
  exec    the same of the process
  notice  notice (new-executable, new-sha256, edited, …), text, and of the process, if it is about one
  gap     start, end, reason, cause, events, sink
  lagged  missed: how many flows and records this reader was too slow for
In all of them, bytes of a text that are not printable are \xNN and a backslash is \\. Keys are only ever added.`

const eventsExample = `  picosnitch events
  picosnitch events --kinds notices,gaps
  picosnitch events --json --kinds flows --interval 5s | jq -c 'select(.sent_rate > 1000000) | [.exe, .raddr]'`

// eventFlags are the flags of events as they were typed.
type eventFlags struct {
	json     bool
	kinds    []string
	interval time.Duration
}

// eventsVerb is events.
func (c *call) eventsVerb() *cobra.Command {
	var f eventFlags
	verb := &cobra.Command{
		Use: "events", Short: "Show what is going on, as it happens", Long: eventsLong, Example: eventsExample,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.events(cmd.Context(), f) },
	}
	p := verb.Flags()
	p.BoolVar(&f.json, "json", false, "one JSON object a line")
	p.StringSliceVar(&f.kinds, "kinds", nil, "`kinds` to show: flows, execs, notices, gaps (default: all)")
	p.DurationVar(&f.interval, "interval", time.Second, "`time` between two looks at flows, 100ms to 1m")
	return verb
}

// request checks the flags.
func (f eventFlags) request() (*wire.WatchRequest, error) {
	known := []string{"flows", "execs", "notices", "gaps"} // in the order of wire.WatchRequest_Kind
	r := &wire.WatchRequest{Interval: int64(f.interval)}
	if f.interval < 100*time.Millisecond || f.interval > time.Minute {
		return nil, misuse("events: --interval %v: want 100ms to 1m", f.interval)
	}
	for _, kind := range f.kinds {
		i := slices.Index(known, kind)
		if i < 0 {
			return nil, misuse("events: --kinds %.40q: there are %s", kind, strings.Join(known, ", "))
		}
		r.Kinds = append(r.Kinds, wire.WatchRequest_Kind(i))
	}
	return r, nil
}

// events shows what the daemon sees until either of them has had enough.
func (c *call) events(ctx context.Context, f eventFlags) error {
	r, err := f.request()
	if err != nil {
		return err
	}
	runDir, err := c.runDir()
	if err != nil {
		return err
	}
	client, err := api.Dial(runDir)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	defer func() { _ = client.Close() }()
	out := bufio.NewWriter(c.out)
	show := eventText
	if f.json {
		show = eventJSON
	}
	err = client.Watch(ctx, r, func(p *wire.WatchPage) error {
		for _, e := range eventsOf(p) {
			line, err := show(e)
			if err != nil {
				return err
			}
			if _, err := out.WriteString(line + "\n"); err != nil {
				return err
			}
		}
		return out.Flush() // whoever reads a pipe sees it now
	})
	return c.howItEnded(ctx, runDir, err)
}

// howItEnded tells an end that was asked for from that of the daemon, and from errors.
func (c *call) howItEnded(ctx context.Context, runDir string, err error) error {
	switch {
	case ctx.Err() != nil:
		return nil // we were told to stop
	case errors.Is(err, api.ErrDenied):
		return fmt.Errorf("events: %w", err)
	case errors.Is(err, api.ErrQuestion):
		return &exitError{code: exitUsage, err: fmt.Errorf("events: %w", err)}
	case err == nil:
		return &exitError{code: exitStopped, err: errors.New("events: picosnitch has ended")}
	}
	return c.lostDaemon(runDir, err)
}

// lostDaemon tells an end of the daemon from other errors of the connection.
func (c *call) lostDaemon(runDir string, err error) error {
	if client, dialErr := api.Dial(runDir); dialErr == nil {
		_ = client.Close()
		return fmt.Errorf("events: %w", err)
	}
	return &exitError{code: exitStopped, err: fmt.Errorf("events: picosnitch has ended: %w", err)}
}
