package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// idle reads memory and processor time of host and plugin.
func (d *daemon) idle(ctx context.Context, period time.Duration) error {
	pids, err := d.plugins(ctx)
	if err != nil {
		return err
	}
	pids["host"] = d.cmd.Process.Pid
	time.Sleep(period / 2) // the runtime gives memory back slowly
	before := map[string]float64{}
	for name, pid := range pids {
		before[name] = cpu(pid)
	}
	time.Sleep(period)
	var pss, anonymous int
	var used float64
	for _, name := range slices.Sorted(maps.Keys(pids)) {
		pid := pids[name]
		p, a := memory(pid)
		c := cpu(pid) - before[name]
		figure("memory when idle, "+name, "", "%.1f MB PSS, %.1f MB of it anonymous", float64(p)/1000, float64(a)/1000)
		pss, anonymous, used = pss+p, anonymous+a, used+c
	}
	figure("together", "≤ 46 MB PSS, ≤ 24 MB anonymous", "%.1f MB PSS, %.1f MB anonymous", float64(pss)/1000, float64(anonymous)/1000)
	figure("processor time when idle, together", "< 0.1 %", "%.2f %% of a core", 100*used/period.Seconds())
	return nil
}

// everyPlugin adds those that keep records, and the example, to what a daemon is to run. The server is nowhere: its plugin
// is measured as it waits for it.
func (d *daemon) everyPlugin(ctx context.Context) error {
	example := d.path("jsonl")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", example, "./examples/jsonl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if words, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build examples/jsonl: %w: %s", err, words)
	}
	d.more = fmt.Sprintf(`, "DB text log": true, "DB sql server": {"client": "psycopg", "host": "127.0.0.1", "port": 9, "user": "x",
		"password": "x", "database": "x", "table_name": "connections"}, "Plugins": {"jsonl": {"path": %q}}`, example)
	return nil
}

// memories reads the memory of every plugin.
func (d *daemon) memories(ctx context.Context, period time.Duration) error {
	time.Sleep(period) // the runtime gives memory back slowly
	pids, err := d.plugins(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pids)) {
		pss, anonymous := memory(pids[name])
		figure("memory beside other plugins, "+name, "", "%.1f MB PSS, %.1f MB of it anonymous", float64(pss)/1000, float64(anonymous)/1000)
	}
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
