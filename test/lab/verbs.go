package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Answer is how a verb ended.
type Answer struct {
	Stdout, Stderr string
	Code           int
}

// Verb runs `picosnitch verb args` as uid, with this instance's directories, and waits for its end.
func (d *Daemon) Verb(uid int, verb string, args ...string) Answer {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline())
	defer cancel()
	cmd := d.command(ctx, verb, args...)
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		d.t.Fatalf("picosnitch %s: no end after %v\n%s%s", verb, Deadline(), out.String(), errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatalf("picosnitch %s: %v", verb, err)
	}
	a := Answer{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
	if strings.Contains(a.Stderr, "goroutine ") {
		d.t.Errorf("picosnitch %s prints a stack:\n%s", verb, a.Stderr)
	}
	return a
}

// PluginStatus is one line of `plugins --json`.
type PluginStatus struct {
	Name         string `json:"name"`
	State        string `json:"state"`
	Pid          int    `json:"pid"`
	UID          int    `json:"uid"`
	Restarts     int    `json:"restarts"`
	Acknowledged uint64 `json:"acknowledged"`
	Queued       uint64 `json:"queued"`
}

// Running tells whether it has a process that works.
func (p PluginStatus) Running() bool { return p.State == "running" && p.Pid != 0 }

// Plugin asks the daemon for one plugin.
func (d *Daemon) Plugin(name string) (PluginStatus, error) {
	d.t.Helper()
	all, err := d.Plugins()
	if err != nil {
		return PluginStatus{}, err
	}
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
	}
	return PluginStatus{}, fmt.Errorf("plugins --json names no %q: %+v", name, all)
}

// Plugins asks the daemon for all of them.
func (d *Daemon) Plugins() ([]PluginStatus, error) {
	d.t.Helper()
	a := d.Verb(0, "plugins", "--json", "--run-dir", d.Run)
	if a.Code != 0 {
		return nil, fmt.Errorf("plugins: exit code %d: %s", a.Code, a.Stderr)
	}
	rows, err := jsonRows([]byte(a.Stdout), "plugins")
	if err != nil {
		return nil, fmt.Errorf("plugins --json: %w", err)
	}
	all := make([]PluginStatus, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row, &all[i]); err != nil {
			return nil, fmt.Errorf("plugins --json: %w", err)
		}
	}
	return all, nil
}

// WaitPlugin waits until a plugin's status satisfies ok.
func (d *Daemon) WaitPlugin(name string, ok func(PluginStatus) bool) PluginStatus {
	d.t.Helper()
	for end := time.Now().Add(Deadline()); ; time.Sleep(50 * time.Millisecond) {
		p, err := d.Plugin(name)
		if err == nil && ok(p) {
			return p
		}
		if time.Now().After(end) {
			d.t.Fatalf("plugin %s after %v: %+v, %v\n%s", name, Deadline(), p, err, d.LogTail())
		}
	}
}

// QueryRow is one row of `query --by exe --json`.
type QueryRow struct {
	Exe      string `json:"exe"`
	Send     uint64 `json:"send"`
	Recv     uint64 `json:"recv"`
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// Bytes are both sums, whichever way the verb names them.
func (r QueryRow) Bytes() (sent, received uint64) {
	return max(r.Send, r.Sent), max(r.Recv, r.Received)
}

// Query runs `query --by exe` for one name.
func (d *Daemon) Query(uid int, name string) ([]QueryRow, error) {
	d.t.Helper()
	a := d.Verb(uid, "query", "--by", "exe", "--since", "1h", "--where", "name="+name, "--json",
		"--config-dir", d.Config, "--run-dir", d.Run)
	if a.Code != 0 {
		return nil, fmt.Errorf("query: exit code %d: %s", a.Code, a.Stderr)
	}
	rows, err := jsonRows([]byte(a.Stdout), "rows")
	if err != nil {
		return nil, fmt.Errorf("query --json: %w", err)
	}
	out := make([]QueryRow, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row, &out[i]); err != nil {
			return nil, fmt.Errorf("query --json: %w", err)
		}
	}
	return out, nil
}

// jsonRows takes an array, an object that holds it under key, or one object a line.
func jsonRows(raw []byte, key string) ([]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	var values []json.RawMessage
	for decoder.More() {
		var v json.RawMessage
		if err := decoder.Decode(&v); err != nil {
			return nil, fmt.Errorf("decode %q: %w", raw, err)
		}
		values = append(values, v)
	}
	if len(values) != 1 {
		return values, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(values[0], &list) == nil {
		return list, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(values[0], &object); err != nil {
		return nil, fmt.Errorf("decode %q: %w", raw, err)
	}
	inner, ok := object[key]
	if !ok {
		return values, nil
	}
	if err := json.Unmarshal(inner, &list); err != nil {
		return nil, fmt.Errorf("decode %s of %q: %w", key, raw, err)
	}
	return list, nil
}
