package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

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
	for _, name := range []string{"host", "sqlite"} {
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
