package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// foregroundName is the verb that is the daemon.
const foregroundName = "start-no-daemon"

const foregroundLong = `Watch in the foreground: log to standard error, and end on SIGTERM, SIGINT (^C) or when the terminal goes. SIGHUP has it read
config.json again (see picosnitch help start).

What was counted until the end is written; nothing is lost by stopping. It needs root. A second daemon with the same run
directory is refused. If it cannot capture on this machine it tells why and exits with 5. This is what a service manager
calls. PICOSNITCH_UIDS names the user ids that plugins run as (default 60900-60963).`

// foregroundVerb is start-no-daemon.
func (c *call) foregroundVerb() *cobra.Command {
	verb := &cobra.Command{
		Use: foregroundName, Short: "Watch in the foreground", Long: foregroundLong,
		Example: "  sudo picosnitch start-no-daemon\n" +
			"  sudo picosnitch start-no-daemon --config-dir ./c --state-dir ./s --run-dir ./r   # beside another daemon",
		RunE: func(cmd *cobra.Command, _ []string) error { return c.foreground(cmd.Context(), cmd.Name(), runDaemon) },
	}
	c.pluginsFlag(verb)
	return verb
}

// foreground runs the daemon in this process, as the only one of its run directory. From before anybody can read its pid
// until its end a SIGHUP reaches it as such, and ends nothing.
func (c *call) foreground(ctx context.Context, verb string, daemon func(context.Context, settings, <-chan os.Signal) error) (err error) {
	if err := requirePrivileges(verb); err != nil {
		return err
	}
	s, err := c.settings(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	hangups := make(chan os.Signal, 1) // one that comes while another is answered is answered too
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	l, err := acquire(s.RunDir)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	defer func() {
		if rerr := l.release(); rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: release lock: %w", verb, rerr))
		}
	}()
	outliveReaders()
	fmt.Fprintln(c.out, "starting picosnitch in simple mode")
	fmt.Fprintln(c.out, "using config and log files from: "+oneLine(s.ConfigDir))
	if err := daemon(ctx, s, hangups); err != nil {
		c.explain(ctx, s, err)
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// outliveReaders makes writing to a closed pipe an error instead of the end: whoever read the output may leave. The signal
// is caught and not ignored, since ignoring it would be inherited by plugins.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
