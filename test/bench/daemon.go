package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// daemon is a running one with private directories.
type daemon struct {
	bin    string
	dir    string
	window int           // seconds
	more   string        // of its configuration, after the window; begins with a comma if there is any
	ready  time.Duration // from its start until it counts, at most
	cmd    *exec.Cmd
}

// with runs a measurement on a fresh daemon with windows of some seconds.
func with(ctx context.Context, bin string, window int, measure func(*daemon) error) error {
	return prepared(ctx, bin, window, func(*daemon) error { return nil }, measure)
}

// prepared is with, for a daemon that needs something in its directory, or in its configuration, before it starts.
func prepared(ctx context.Context, bin string, window int, prepare, measure func(*daemon) error) error {
	dir, err := os.MkdirTemp("", "picosnitch-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the daemon: %w", err)
	}
	defer os.RemoveAll(dir)
	d := &daemon{bin: bin, dir: dir, window: window}
	if err := prepare(d); err != nil {
		return err
	}
	err = d.start(ctx)
	if err == nil {
		err = measure(d)
	}
	return errors.Join(err, d.stop())
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

// start starts the daemon and waits until it and its plugin are at work.
func (d *daemon) start(ctx context.Context) error {
	config := fmt.Sprintf(`{"DB write limit (seconds)": %d, "Desktop notifications": false, "GeoIP lookup": false%s}`, d.window, d.more)
	for _, name := range []string{"config", "state", "run"} {
		if err := os.Mkdir(d.path(name), 0o700); err != nil {
			return fmt.Errorf("make a directory of the daemon: %w", err)
		}
	}
	if err := os.WriteFile(d.path("config/config.json"), []byte(config), 0o600); err != nil {
		return fmt.Errorf("write its configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, d.bin, "start-no-daemon", "--config-dir", d.path("config"), "--state-dir", d.path("state"),
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
	return wait("sqlite runs", func() bool {
		pids, err := d.plugins(ctx)
		return err == nil && pids["sqlite"] != 0
	})
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

// plugins are the processes of all plugins that have one, by name.
func (d *daemon) plugins(ctx context.Context) (map[string]int, error) {
	answer, err := exec.CommandContext(ctx, d.bin, "plugins", "--json", "--config-dir", d.path("config"), "--run-dir", d.path("run")).Output()
	if err != nil {
		return nil, fmt.Errorf("ask for the plugins: %w", err)
	}
	var all []struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
	}
	if err := json.Unmarshal(answer, &all); err != nil {
		return nil, fmt.Errorf("read the answer about plugins: %w", err)
	}
	pids := make(map[string]int)
	for _, p := range all {
		if p.PID != 0 {
			pids[p.Name] = p.PID
		}
	}
	return pids, nil
}
