package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a running one with private directories.
type daemon struct {
	dir    string
	window int           // seconds
	ready  time.Duration // from its start until it counts, at most
	cmd    *exec.Cmd
}

// with runs a measurement on a fresh daemon with windows of some seconds.
func with(ctx context.Context, bin string, window int, measure func(*daemon) error) error {
	dir, err := os.MkdirTemp("", "picosnitch-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the daemon: %w", err)
	}
	defer os.RemoveAll(dir)
	d := &daemon{dir: dir, window: window}
	err = d.start(ctx, bin)
	if err == nil {
		err = measure(d)
	}
	return errors.Join(err, d.stop())
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

// start starts the daemon and waits until it and its plugin are at work.
func (d *daemon) start(ctx context.Context, bin string) error {
	config := fmt.Sprintf(`{"DB write limit (seconds)": %d, "Desktop notifications": false, "GeoIP lookup": false}`, d.window)
	for _, name := range []string{"config", "state", "run"} {
		if err := os.Mkdir(d.path(name), 0o700); err != nil {
			return fmt.Errorf("make a directory of the daemon: %w", err)
		}
	}
	if err := os.WriteFile(d.path("config/config.json"), []byte(config), 0o600); err != nil {
		return fmt.Errorf("write its configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, bin, "start-no-daemon", "--config-dir", d.path("config"), "--state-dir", d.path("state"),
		"--run-dir", d.path("run"), "--instance", "bench-"+strconv.Itoa(os.Getpid()))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	log, err := os.Create(d.path("log"))
	if err != nil {
		return fmt.Errorf("make its log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	d.cmd = cmd
	if err := wait("the daemon is ready", func() bool { _, err := os.Stat(d.path("run/ready")); return err == nil }); err != nil {
		words, _ := os.ReadFile(d.path("log"))
		return fmt.Errorf("%w; it said: %s", err, words)
	}
	d.ready = time.Since(begin)
	return wait("the plugin runs", func() bool { return d.plugin() != 0 })
}

// stop ends the daemon, if there is one, and waits for it.
func (d *daemon) stop() error {
	if d.cmd == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // gone already: Wait tells
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	return nil
}

// plugin finds the sqlite plugin among the daemon's descendants; 0 if it is not there.
func (d *daemon) plugin() int {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		after := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if strings.Contains(string(raw), "(picosnitch-plug") && len(after) > 1 && after[1] == strconv.Itoa(d.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "/proc/"), "/stat"))
			return pid
		}
	}
	return 0
}
