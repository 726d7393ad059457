package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/record"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// errHungUp is why the daemon ends when its terminal has gone.
var errHungUp = fmt.Errorf("the terminal has gone: %w", context.Canceled)

// listenForChanges reads config.json again with every SIGHUP, until ctx ends. A SIGHUP because the terminal has gone ends
// the daemon: it was started to be seen.
func (d *daemon) listenForChanges(ctx context.Context, end context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hangups:
		}
		if hungUp(os.Stdin, os.Stdout, os.Stderr) {
			end(errHungUp)
			return
		}
		d.reload()
	}
}

// hungUp tells whether one of these files is a terminal that has gone.
func hungUp(files ...*os.File) bool {
	for _, f := range files {
		poll := []unix.PollFd{{Fd: int32(f.Fd())}}
		info, err := f.Stat()
		if err != nil || info.Mode()&os.ModeCharDevice == 0 {
			continue
		}
		if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&unix.POLLHUP != 0 {
			return true
		}
	}
	return false
}

// reload puts config.json into force, as far as that can be done while running, and says what changed. A broken file
// leaves everything as it is, and is complained about.
func (d *daemon) reload() {
	loaded, err := d.readConfig()
	if err != nil {
		d.fault("config.json could not be read again: " + err.Error())
		return
	}
	problems := d.problemsOf(loaded)
	for _, problem := range problems {
		d.fault(problem)
	}
	if config.Broken(loaded.Problems) {
		d.inForce.complain(append(problems, "config.json is not in force, but what was before"))
		return
	}
	changed := config.Changes(d.inForce.get(), loaded.Config)
	d.inForce.set(loaded.Config, problems)
	d.log.Info("configuration read again", "changed", len(changed))
	d.tellEdited(changed)
	d.server.SetGroup(loaded.Config.Host.GroupName())
	d.seen.enable(d.mayOpen(loaded.Config))
	d.reverse.Enable(loaded.Config.Host.ReverseDNS)
	if err := d.reconfigureRecords(loaded.Config, changed); err != nil {
		d.fault("configuration: " + err.Error())
	}
	if err := d.reconfigurePlugins(loaded.Config); err != nil {
		d.fault("configuration: " + err.Error())
	}
}

// tellEdited makes a change of the configuration known: which keys, never which values.
func (d *daemon) tellEdited(keys []string) {
	if len(keys) == 0 {
		return
	}
	now := time.Now().UnixNano()
	path := filepath.Join(d.settings.ConfigDir, config.FileName)
	shown := keys
	const most = 8 // of the keys in a notice; the record has them all
	if len(shown) > most {
		shown = append(slices.Clone(shown[:most]), fmt.Sprintf("and %d more", len(keys)-most))
	}
	text := "config.json was edited: " + strings.Join(shown, ", ")
	d.note(text)
	d.log.Info("configuration edited", "keys", strings.Join(keys, ", "))
	d.pipeline.add(
		&wire.Record{Kind: &wire.Record_Config{Config: &wire.Config{
			Time: now, Source: &wire.Text{Value: []byte(path)}, Changed: printables(keys),
		}}},
		&wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{
			Time: now, Kind: wire.NoticeKind_NOTICE_EDITED, Text: &wire.Text{Value: []byte(oneLine(text))},
		}}},
	)
}

// reconfigureRecords has what is recorded, and shown, follow the configuration from the next window on.
func (d *daemon) reconfigureRecords(c config.Config, changed []string) error {
	concerned := func(key string) bool {
		return strings.HasPrefix(key, "Log ") || key == "Every exe (not just conns)" || strings.HasPrefix(key, "Plugins.host")
	}
	if !slices.ContainsFunc(changed, concerned) {
		return nil
	}
	o := d.recordOptions(c)
	if err := d.feed.Reconfigure(o); err != nil {
		return err
	}
	replace := func() {
		if err := d.pipeline.replaceRecorder(o, func() (*record.Recorder, error) { return d.newRecorder(o) }); err != nil {
			d.fault("configuration: " + err.Error())
		}
	}
	select {
	case <-d.pipeline.between: // an earlier change that has not been made yet
	default:
	}
	d.pipeline.between <- replace
	return nil
}

// replaceRecorder records by other options from now on. It is called between two windows.
func (p *pipeline) replaceRecorder(o record.Options, make func() (*record.Recorder, error)) error {
	waiting, err := p.recorder.replace(make)
	p.add(waiting...)
	p.everyExe = o.EveryExe
	return err
}

// reconfigurePlugins starts, stops and restarts what changed, and nothing else. Also without a change of the file: a plugin
// may have been installed since.
func (d *daemon) reconfigurePlugins(c config.Config) error {
	choices, err := d.choices(c)
	if err != nil {
		return err
	}
	before := d.roster.specs // changed by this goroutine alone
	specs := d.specs(choices)
	d.linkFiles(specs)
	if err := d.registerSinks(specs); err != nil {
		return err
	}
	if err := d.supervisor.Reconfigure(specs); err != nil {
		return fmt.Errorf("reconfigure plugins: %w", err)
	}
	for _, sink := range d.journal.Sinks() {
		if !slices.ContainsFunc(before, called(sink)) { // no plugin ends that would be forgotten then
			d.forgetSink(sink)
		}
	}
	return nil
}
