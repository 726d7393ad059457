// Command bench measures a real daemon with its sqlite plugin: start, memory and processor time when idle, and how fast
// what was counted becomes rows. It needs root, prints one figure a line, and judges nothing.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"
)

func main() {
	bin := flag.String("bin", "bin/picosnitch", "the daemon")
	idle := flag.Duration("idle", 60*time.Second, "how long to watch the idle daemon")
	peers := flag.Int("peers", 15000, "rows to make")
	flag.Parse()
	if err := run(context.Background(), *bin, *idle, *peers); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// daemon is a running one with private directories.
type daemon struct {
	dir    string
	window int // seconds
	cmd    *exec.Cmd
}

func run(ctx context.Context, bin string, idle time.Duration, peers int) error {
	busy := func(d *daemon) error { return d.rows(peers) }
	if err := with(ctx, bin, 1, busy); err != nil {
		return err
	}
	return with(ctx, bin, 10, func(d *daemon) error { return d.idle(idle) })
}

// with runs a measurement on a fresh daemon with windows of some seconds.
func with(ctx context.Context, bin string, window int, measure func(*daemon) error) error {
	dir, err := os.MkdirTemp("", "picosnitch-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &daemon{dir: dir, window: window}
	if err := d.start(ctx, bin); err != nil {
		return err
	}
	defer d.stop()
	return measure(d)
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

// start starts the daemon and sends from the first moment on: what arrives in the database tells when counting began.
func (d *daemon) start(ctx context.Context, bin string) error {
	config := fmt.Sprintf(`{"DB write limit (seconds)": %d, "Desktop notifications": false, "GeoIP lookup": false}`, d.window)
	for _, name := range []string{"config", "state", "run"} {
		if err := os.Mkdir(d.path(name), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.path("config/config.json"), []byte(config), 0o600); err != nil {
		return err
	}
	d.cmd = exec.CommandContext(ctx, bin, "start-no-daemon", "--config-dir", d.path("config"), "--state-dir", d.path("state"),
		"--run-dir", d.path("run"), "--instance", "bench-"+strconv.Itoa(os.Getpid()))
	log, err := os.Create(d.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	begin := time.Now()
	if err := d.cmd.Start(); err != nil {
		return err
	}
	if err := wait("the daemon is ready", func() bool { _, err := os.Stat(d.path("run/ready")); return err == nil }); err != nil {
		words, _ := os.ReadFile(d.path("log"))
		return fmt.Errorf("%w; it said: %s", err, words)
	}
	fmt.Printf("start to first captured byte, at most: %d ms (windows of %d s)\n", time.Since(begin).Milliseconds(), d.window)
	return wait("the plugin runs", func() bool { return d.plugin() != 0 })
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

// plugin finds the sqlite plugin among the daemon's descendants.
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

// rows makes many flows at once and watches them become rows.
func (d *daemon) rows(peers int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	begin := time.Now()
	for i := range peers {
		to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 2, byte(i >> 8), byte(i)}}
		if err := unix.Sendto(fd, []byte("x"), 0, to); err != nil && err != unix.ECONNREFUSED {
			return err
		}
	}
	sent := time.Since(begin)
	db, err := sql.Open("sqlite", "file:"+d.path("config/snitch.db")+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var total int
	var first time.Duration
	err = wait("rows", func() bool {
		row := db.QueryRow("SELECT coalesce(sum(sends), 0) FROM connections WHERE pid = ?", os.Getpid())
		if row.Scan(&total) != nil {
			return false
		}
		if total > 0 && first == 0 {
			first = time.Since(begin)
		}
		return total >= peers
	})
	if err != nil {
		return fmt.Errorf("%w (%d of %d)", err, total, peers)
	}
	all := time.Since(begin)
	fmt.Printf("%d flows: sent in %d ms, first row after %d ms, last after %d ms (windows of 1 s)\n",
		peers, sent.Milliseconds(), first.Milliseconds(), all.Milliseconds())
	fmt.Printf("capture to committed row, once the window has ended: %.0f rows/s\n", float64(peers)/(all-time.Second).Seconds())
	return nil
}

// idle reads memory and processor time of host and plugin.
func (d *daemon) idle(period time.Duration) error {
	pids := map[string]int{"host": d.cmd.Process.Pid, "sqlite": d.plugin()}
	time.Sleep(period / 2) // the runtime gives memory back slowly
	before := map[string]float64{}
	for name, pid := range pids {
		before[name] = cpu(pid)
	}
	time.Sleep(period)
	var pss, anonymous int
	var used float64
	for name, pid := range pids {
		p, a := memory(pid)
		c := cpu(pid) - before[name]
		fmt.Printf("%s when idle: PSS %d kB, anonymous %d kB, %.2f %% of a core\n", name, p, a, 100*c/period.Seconds())
		pss, anonymous, used = pss+p, anonymous+a, used+c
	}
	fmt.Printf("together: PSS %.1f MB, anonymous %.1f MB, %.2f %% of a core\n",
		float64(pss)/1000, float64(anonymous)/1000, 100*used/period.Seconds())
	return nil
}

// memory gives PSS and anonymous PSS in kB.
func memory(pid int) (pss, anonymous int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		value, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "Pss:":
			pss = value
		case "Pss_Anon:":
			anonymous = value
		}
	}
	return pss, anonymous
}

// cpu gives seconds of processor time used so far.
func cpu(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

func wait(what string, condition func() bool) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return nil
		}
	}
	return fmt.Errorf("waited 60 s until %s", what)
}
