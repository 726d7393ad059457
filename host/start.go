package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/config"
)

const (
	startTime  = 30 * time.Second // until the daemon captures
	abortTime  = 5 * time.Second  // for one that did not make it, before it is killed
	startCheck = 10 * time.Millisecond
	logTail    = 2 << 10 // bytes of the log that an error shows
)

const startLong = `Watch in the background. The verb returns once everything is counted, or tells what the daemon said before it gave up:
if it cannot capture on this machine the exit code is 5, and the reasons are those of picosnitch doctor.

It needs root, and is refused while another daemon has the same run directory. The daemon's own log is daemon.log in the
run directory; what concerns the user is in error.log, beside config.json.

A daemon that gets SIGHUP reads config.json again: it starts, stops and restarts the plugins that changed, records by the
new rules from the next window on, and says in error.log what changed. A broken file changes nothing and is complained about.
What counts only from the next start on is told by status.`

// startVerb is start.
func (c *call) startVerb() *cobra.Command {
	verb := &cobra.Command{
		Use: "start", Short: "Watch in the background", Long: startLong,
		Example: "  sudo picosnitch start\n  sudo picosnitch start --config-dir /etc/picosnitch     # of whoever owns that directory\n" +
			"  sudo picosnitch start --plugins sqlite     # and no other, this time",
		RunE: func(cmd *cobra.Command, _ []string) error { return c.start(cmd.Context(), cmd.Name()) },
	}
	c.pluginsFlag(verb)
	return verb
}

// pluginsFlag is what selects plugins for one run.
func (c *call) pluginsFlag(verb *cobra.Command) {
	verb.Flags().StringVar(&c.flags.plugins, "plugins", "",
		"`names`, separated by commas, of the only plugins to run this time, or none (default: as config.json says)")
}

// parsePlugins reads names; nil is what the configuration says.
func parsePlugins(text string) ([]string, error) {
	switch text {
	case "":
		return nil, nil
	case "none":
		return []string{}, nil
	}
	names := strings.Split(text, ",")
	for _, name := range names {
		if !config.PluginName(name) {
			return nil, misuse("--plugins %.80q: want names separated by commas, such as sqlite,textlog, or none", text)
		}
	}
	return names, nil
}

// start makes a daemon and waits until it captures.
func (c *call) start(ctx context.Context, verb string) error {
	if err := requirePrivileges(verb); err != nil {
		return err
	}
	s, err := c.settings(ctx)
	if err == nil {
		err = c.launchDaemon(ctx, s)
		c.explain(ctx, s, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

func (c *call) launchDaemon(ctx context.Context, s settings) error {
	if err := api.MakeRunDir(s.RunDir); err != nil {
		return err
	}
	pid, err := holder(s.RunDir)
	if err != nil {
		return err
	}
	if pid != 0 {
		return &runningError{pid: pid, path: filepath.Join(s.RunDir, lockName)}
	}
	fmt.Fprintln(c.out, "starting picosnitch daemon")
	if err := removeIfThere(filepath.Join(s.RunDir, readyFile)); err != nil {
		return fmt.Errorf("forget the last daemon: %w", err)
	}
	child, err := s.detach()
	if err != nil {
		return err
	}
	return s.await(ctx, child)
}

// arguments make this program the daemon of the same settings.
func (s settings) arguments() []string {
	list := []string{"picosnitch", foregroundName, "--config-dir", s.ConfigDir, "--state-dir", s.StateDir,
		"--run-dir", s.RunDir, "--instance", s.Instance}
	if s.Plugins != nil {
		list = append(list, "--plugins", cmp.Or(strings.Join(s.Plugins, ","), "none"))
	}
	return list
}

// detach starts the daemon in a session of its own. The log is new with every start, and for root alone.
func (s settings) detach() (*os.Process, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | os.O_APPEND | unix.O_NOFOLLOW
	log, err := os.OpenFile(filepath.Join(s.RunDir, logName), flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open standard input: %w", err)
	}
	defer func() { _ = null.Close() }()
	program, err := os.Executable() // by its name, not as /proc/self/exe: the daemon would be called "exe" in ps and our own rows
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	child, err := os.StartProcess(program, s.arguments(), &os.ProcAttr{
		Dir: "/", Files: []*os.File{null, log, log}, Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	return child, nil
}

// await waits until the daemon captures. One that does not get there in time, or is not wanted any more, is ended.
func (s settings) await(ctx context.Context, child *os.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		if ended, how, code := reap(child.Pid); ended {
			return gaveUp(code, fmt.Errorf("the daemon gave up (%s): %s", how, s.lastWords()))
		}
		if _, err := os.Stat(filepath.Join(s.RunDir, readyFile)); err == nil {
			return child.Release()
		}
		select {
		case <-time.After(startCheck):
			continue
		case <-ctx.Done():
		}
		abort(child)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("the daemon does not capture after %v, and was ended: %s", startTime, s.lastWords())
		}
		return errors.New("given up: the daemon was ended")
	}
}

// gaveUp passes on the one exit code of a daemon that means something to whoever started it.
func gaveUp(code int, err error) error {
	if code == exitNoCapture {
		return &exitError{code: code, err: err}
	}
	return err
}

// reap tells whether a child has ended, how, and with which exit code; -1 is none.
func reap(pid int) (ended bool, how string, code int) {
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	switch {
	case errors.Is(err, unix.EINTR), err == nil && got == 0:
		return false, "", -1
	case err != nil:
		return true, err.Error(), -1
	case status.Signaled():
		return true, "killed by " + unix.SignalName(status.Signal()), -1
	}
	return true, fmt.Sprintf("exit code %d", status.ExitStatus()), status.ExitStatus()
}

// abort ends a child, by force if it takes too long.
func abort(child *os.Process) {
	_ = child.Signal(unix.SIGTERM) // one that has ended already is reaped below
	for end := time.Now().Add(abortTime); time.Now().Before(end); time.Sleep(startCheck) {
		if ended, _, _ := reap(child.Pid); ended {
			return
		}
	}
	_ = child.Kill()
	_, _ = child.Wait()
}

// lastWords is the end of the daemon's log.
func (s settings) lastWords() string {
	path := filepath.Join(s.RunDir, logName)
	file, err := os.Open(path)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > logTail {
		_, _ = file.Seek(-logTail, io.SeekEnd)
	}
	text, err := io.ReadAll(io.LimitReader(file, logTail))
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "picosnitch: ")
	if last == "" {
		return "it said nothing"
	}
	return last + " (more in " + path + ")"
}
