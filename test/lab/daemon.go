package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const uidsEach = 16 // of a daemon's own range for its plugins

// Daemon is one instance of picosnitch: its directories and, while it runs, its process. It outlives restarts.
type Daemon struct {
	Instance           string
	Config, State, Run string // directories
	Owner              int    // uid that owns Config; with it the daemon is started as sudo would
	Resolv             string // what the daemon sees at /etc/resolv.conf; "" for the machine's own

	lab  *Lab
	t    *testing.T
	uids string
	cmd  *exec.Cmd
	done chan error // receives what Wait said, once
	log  *os.File

	mu       sync.Mutex
	expected []remembered // guarded by mu
}

type remembered struct {
	filter Filter
	want   []Expectation
}

// NewDaemon makes the directories of an instance and a config.json with a write window of one second. What is left
// running when t ends is stopped.
func NewDaemon(t *testing.T, l *Lab, owner int) *Daemon { return NewDaemonOn(t, l, owner, l.Dir) }

// NewDaemonOn is NewDaemon with what the daemon and its plugins keep, configuration and state, on another disk.
func NewDaemonOn(t *testing.T, l *Lab, owner int, disk string) *Daemon {
	t.Helper()
	n := int(l.instances.Add(1))
	d := &Daemon{Instance: fmt.Sprintf("%s%d-%d", instancePrefix, os.Getpid(), n), Owner: owner, lab: l, t: t}
	base, kept := filepath.Join(l.Dir, strconv.Itoa(n)), filepath.Join(disk, strconv.Itoa(n))
	d.Config, d.State, d.Run = filepath.Join(kept, "config"), filepath.Join(kept, "state"), filepath.Join(base, "run")
	for dir, mode := range map[string]os.FileMode{d.Config: 0o755, d.State: 0o700, d.Run: 0o755} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.MkdirAll(dir, mode)); err != nil {
			t.Fatal(err)
		}
	}
	first := 62000 + n*uidsEach%2000
	d.uids = fmt.Sprintf("%d-%d", first, first+uidsEach-1)
	d.WriteConfig(defaultConfig())
	if err := os.Chown(d.Config, owner, owner); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(base, "log"))
	if err != nil {
		t.Fatal(err)
	}
	d.log = log
	t.Cleanup(d.cleanUp)
	return d
}

func defaultConfig() string {
	raw, err := json.MarshalIndent(map[string]any{
		"DB write limit (seconds)": 1, "Desktop notifications": false, "GeoIP lookup": false,
	}, "", "  ")
	if err != nil {
		return "" // constants always encode
	}
	return string(raw) + "\n"
}

// WriteConfig replaces config.json.
func (d *Daemon) WriteConfig(text string) {
	d.t.Helper()
	path := filepath.Join(d.Config, "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chown(path, d.Owner, d.Owner); err != nil {
		d.t.Fatal(err)
	}
}

// Database is where a user looks for it.
func (d *Daemon) Database() string { return filepath.Join(d.Config, "snitch.db") }

// Directories are the flags that every verb takes to mean this instance.
func (d *Daemon) Directories() []string {
	return []string{"--config-dir", d.Config, "--state-dir", d.State, "--run-dir", d.Run}
}

// command prepares `picosnitch verb` with a clean environment.
func (d *Daemon) command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.lab.Command, append([]string{verb}, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent",
		"PICOSNITCH_INSTANCE=" + d.Instance, "PICOSNITCH_UIDS=" + d.uids, "PICOSNITCH_LACKS=" + os.Getenv("PICOSNITCH_LACKS"),
	}
	if d.Owner != 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SUDO_UID=%d", d.Owner), fmt.Sprintf("SUDO_GID=%d", d.Owner))
	}
	return cmd
}

// Start starts the daemon and waits until it captures and its plugins are configured.
func (d *Daemon) Start() {
	d.t.Helper()
	ready := filepath.Join(d.Run, "ready")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	// Not bound to a context: SIGKILL from one would hide how the daemon ends.
	cmd := d.command(context.Background(), "start-no-daemon", append(d.Directories(), "--instance", d.Instance)...)
	if d.Resolv != "" {
		const bind = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
		cmd.Path, cmd.Args = "/usr/bin/unshare", append([]string{"unshare", "--mount", "sh", "-c", bind, d.Resolv}, cmd.Args...)
	}
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("start daemon: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends with the process, which Stop, Kill or cleanUp waits for
	d.cmd, d.done = cmd, done
	pid := filepath.Join(filepath.Dir(d.Run), "pid")
	if err := os.WriteFile(pid, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.waitReady(ready)
	d.t.Logf("%s: ready after %v", d.Instance, time.Since(start).Round(time.Millisecond))
}

func (d *Daemon) waitReady(file string) {
	d.t.Helper()
	for end := time.Now().Add(Deadline()); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
		select {
		case err := <-d.done:
			d.cmd = nil
			d.t.Fatalf("daemon ended before it was ready: %v\n%s", err, d.LogTail())
		default:
		}
		if time.Now().After(end) {
			d.t.Fatalf("daemon not ready after %v\n%s", Deadline(), d.LogTail())
		}
	}
}

// Stop asks the daemon to end (SIGTERM), which must succeed, and compares the rows of every case once more.
func (d *Daemon) Stop() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	if err := d.end(unix.SIGTERM); err != nil {
		d.t.Errorf("daemon on SIGTERM: %v\n%s", err, d.LogTail())
	}
	d.checkLog()
	d.Recheck()
}

// Kill ends the daemon as a crash does (SIGKILL).
func (d *Daemon) Kill() {
	d.t.Helper()
	_ = d.end(unix.SIGKILL) // "signal: killed" is the point
}

func (d *Daemon) end(signal unix.Signal) error {
	cmd := d.cmd
	d.cmd = nil
	if err := cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal %v: %w", signal, err)
	}
	select {
	case err := <-d.done:
		return err
	case <-time.After(Deadline()):
		return errors.Join(fmt.Errorf("still runs %v after %v", Deadline(), signal), cmd.Process.Kill(), <-d.done)
	}
}

// cleanUp ends what a failed test left running and removes the pins of this instance.
func (d *Daemon) cleanUp() {
	if d.cmd != nil {
		d.Stop()
	}
	if d.t.Failed() {
		d.t.Logf("daemon's log:\n%s", d.LogTail())
	}
	for _, parent := range instanceDirs() {
		for _, path := range glob(parent + "picosnitch-" + d.Instance) {
			removePins(d.t, path)
		}
	}
	_ = d.log.Close()
}

// remember keeps the expectations of a case for [Daemon.Recheck].
func (d *Daemon) remember(f Filter, want []Expectation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.expected {
		if d.expected[i].filter.ExePrefix == f.ExePrefix {
			d.expected[i].want = want
			return
		}
	}
	d.expected = append(d.expected, remembered{f, want})
}

// Recheck compares every case's rows at once, without waiting.
func (d *Daemon) Recheck() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.expected {
		ctx, cancel := context.WithTimeout(context.Background(), Deadline())
		rows, err := readRows(ctx, d.Database(), r.filter)
		cancel()
		if err != nil {
			d.t.Errorf("%s, after stop: %v", filepath.Base(r.filter.ExePrefix), err)
		}
		if differences := compare(r.want, rows); len(differences) > 0 {
			d.t.Errorf("%s, after stop:\n%s", filepath.Base(r.filter.ExePrefix), table(differences))
		}
	}
}

// Log is everything that the daemon wrote.
func (d *Daemon) Log() string {
	raw, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// LogTail is the end of [Daemon.Log].
func (d *Daemon) LogTail() string {
	lines := strings.Split(d.Log(), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (d *Daemon) checkLog() {
	d.t.Helper()
	for _, sign := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if strings.Contains(d.Log(), sign) {
			d.t.Errorf("the daemon's log has %q:\n%s", sign, d.LogTail())
		}
	}
}
