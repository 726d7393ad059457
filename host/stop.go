package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// stopTime is how long a daemon may take to write what it holds.
const stopTime = 30 * time.Second

const stopLong = `Ask the daemon to end, and wait until it has: it writes what it counted, and so do its plugins. It needs root.

Stopping a daemon that does not run is no failure.`

// stopVerb is stop.
func (c *call) stopVerb() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "Stop watching", Long: stopLong,
		Example: "  sudo picosnitch stop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(c.out, "stopping picosnitch daemon")
			return c.stop(cmd.Context(), cmd.Name())
		},
	}
}

// restartVerb is restart.
func (c *call) restartVerb() *cobra.Command {
	verb := &cobra.Command{
		Use: "restart", Short: "Stop watching and start again",
		Long:    "Stop the daemon if it runs, then start it in the background. It needs root. A changed config.json counts from then on.",
		Example: "  sudo picosnitch restart",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := requirePrivileges(cmd.Name()); err != nil {
				return err
			}
			if _, err := parsePlugins(c.flags.plugins); err != nil { // before anything is stopped
				return err
			}
			fmt.Fprintln(c.out, "restarting picosnitch daemon")
			if err := c.stop(cmd.Context(), cmd.Name()); err != nil {
				return err
			}
			return c.start(cmd.Context(), cmd.Name())
		},
	}
	c.pluginsFlag(verb)
	return verb
}

// stop ends the daemon of the run directory, if there is one.
func (c *call) stop(ctx context.Context, verb string) error {
	runDir, err := c.runDir()
	if err != nil {
		return err
	}
	pid, err := holder(runDir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: uid %d is not root: try sudo picosnitch %s", verb, errPrivileges, c.uid, verb)
	case err != nil:
		return fmt.Errorf("%s: %w", verb, err)
	case pid == 0:
		if err := c.stopNothing(runDir); err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		return nil
	}
	if err := end(ctx, runDir, pid); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// stopNothing says that there is no daemon, and removes what one that was killed left.
func (c *call) stopNothing(runDir string) error {
	path, what := filepath.Join(runDir, pidName), "does not exist. picosnitch not running?"
	if readPid(path) != 0 {
		what = "is removed: picosnitch was not detected."
		l, err := acquire(runDir) // a daemon that starts now is not robbed of its own
		if err != nil {
			return err
		}
		if err := l.release(); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.errs, "pidfile %s %s\n", oneLine(path), what)
	return nil
}

// end asks a daemon to end and waits for it.
func end(ctx context.Context, runDir string, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// From here on the descriptor is one process for ever. Was it still the daemon when it was opened?
	if now, err := holder(runDir); err != nil || now != pid {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal pid %d: %w", pid, err)
	}
	return waitEnd(ctx, fd, pid)
}

func waitEnd(ctx context.Context, fd, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for pid %d: %w", pid, err)
		}
		if n > 0 && err == nil {
			return nil
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("pid %d still runs after %v: it may be writing what it holds; wait, or kill -9 %d and lose that", pid, stopTime, pid)
	}
	return fmt.Errorf("pid %d was asked to end, and still runs: %w", pid, ctx.Err())
}
