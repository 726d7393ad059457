package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/canary"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/library"
	"github.com/picosnitch/picosnitch/host/internal/live"
	"github.com/picosnitch/picosnitch/host/internal/marks"
	"github.com/picosnitch/picosnitch/host/internal/name"
	"github.com/picosnitch/picosnitch/host/internal/record"
	"github.com/picosnitch/picosnitch/host/internal/reverse"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	"github.com/picosnitch/picosnitch/host/internal/unit"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// How long each part of a stop may take.
const (
	drainBudget = 20 * time.Second // sinks take what the journal holds
	closeBudget = 2 * time.Second  // everything else
)

// diskPatience lies between two looks whether there is room on the disk again.
const diskPatience = 5 * time.Second

// daemon is the running host: every stage, made in the order of the data and closed in reverse.
type daemon struct {
	settings settings
	log      *slog.Logger
	started  time.Time
	bootID   [16]byte

	dir        *home.Dir
	inForce    inForce
	edited     []string // keys of config.json that changed while no host ran
	state      *state
	journal    *journal.Journal
	backlogs   backlogs
	position   capture.Position // where the run before ended
	source     *capture.Kernel
	cgroups    *identity.Cgroups
	helpers    *helper.Pool // nil: files of FUSE and network file systems and the package manager's are not read
	owners     *owners      // nil likewise
	marks      *marks.Marks // nil: the kernel does not hand over what is executed
	table      *identity.Table
	names      *name.Table
	libraries  *library.Libraries // nil as helpers
	reverse    *reverse.Asker     // nil likewise
	recorder   *scribe
	feed       *live.Feed
	pipeline   *pipeline
	gaps       *ledger
	canary     *canary.Canary
	off        int64 // UTC since when the probes that were taken over had been off; 0 if they were not
	supervisor *supervisor.Supervisor
	roster     roster
	server     *api.Server
	seen       *executables

	hangups <-chan os.Signal // SIGHUP
	closers []func() error
}

// runDaemon monitors until ctx ends. What was counted until then is journaled, and with the sinks if they take it. With
// every hangup it reads its configuration again.
func runDaemon(ctx context.Context, s settings, hangups <-chan os.Signal) (err error) {
	d := &daemon{settings: s, hangups: hangups, log: slog.New(slog.NewTextHandler(os.Stderr, nil)), started: time.Now()}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(ctx); err != nil {
		return err
	}
	return d.run(ctx)
}

func (d *daemon) onClose(f func() error) { d.closers = append(d.closers, f) }

func (d *daemon) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	d.closers = nil
	return errors.Join(errs...)
}

// open makes the stages. Counting begins early: what is slow comes after it.
func (d *daemon) open(ctx context.Context) error {
	steps := []func(context.Context) error{
		d.openFiles, d.openJournal, d.openCapture, d.openIdentity, d.openRecord, d.openPipeline, d.startMarks, d.openSupervisor, d.keepStart,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) openFiles(context.Context) error {
	var err error
	if d.state, err = openState(d.settings.StateDir); err != nil {
		return err
	}
	if d.dir, err = home.Open(d.settings.ConfigDir, d.settings.Owner); err != nil {
		return fmt.Errorf("open configuration directory: %w", err)
	}
	d.onClose(d.dir.Close)
	id, err := capture.BootID()
	if err != nil {
		return err
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != len(d.bootID) {
		return fmt.Errorf("boot id %q is not one", id)
	}
	copy(d.bootID[:], raw)
	return d.loadConfig()
}

// openJournal waits for room if a damaged journal cannot be put in order for want of it: the probes of the run before go on
// counting meanwhile.
func (d *daemon) openJournal(ctx context.Context) error {
	bounds := d.inForce.get().Host
	o := journal.Options{
		Dir: d.state.dir, HostID: d.state.hostID,
		MaxBytes: int64(bounds.JournalMB) << 20, MaxAge: time.Duration(bounds.JournalDays) * 24 * time.Hour,
	}
	for told := false; ; told = true {
		var err error
		d.journal, err = journal.Open(o)
		if err == nil {
			d.onClose(d.journal.Close)
			return nil
		}
		err = fmt.Errorf("open journal: %w", err)
		if !errors.Is(err, journal.ErrDisk) {
			return err
		}
		if !told {
			d.log.Error("waiting for room on the disk", "error", err)
		}
		select {
		case <-time.After(diskPatience):
		case <-ctx.Done():
			return err
		}
	}
}

func (d *daemon) openCapture(context.Context) error {
	position, _, err := readPosition(d.journal)
	if err != nil {
		d.log.Error("begin counting anew", "error", err)
	}
	d.findOff()
	d.position = position
	d.source, err = capture.Open(capture.Options{
		Instance: d.settings.Instance, Interval: d.interval(), RingPages: d.inForce.get().PerfPages,
		Position: position, Secret: d.state.secret, Log: d.log, Lacks: d.settings.Lacks,
	})
	if err != nil {
		return refusal(err)
	}
	d.onClose(func() error { d.source.Abandon(); return nil })
	return nil
}

func (d *daemon) interval() time.Duration {
	return time.Duration(d.inForce.get().WriteLimitSeconds) * time.Second
}

func (d *daemon) openIdentity(context.Context) error {
	root, err := capture.CgroupRoot()
	if err != nil {
		return err
	}
	if d.cgroups, err = identity.OpenCgroups(root); err != nil {
		return err
	}
	d.onClose(d.cgroups.Close)
	d.openHelpers()
	units := unit.New(unit.Options{CgroupRoot: root, HostMountNS: identity.MountNamespace("/proc"), V1: unit.V1("/proc", "/sys/fs/cgroup")})
	o := identity.Options{
		Unit: units.Find, Follower: d.openMarks(),
		BootID: d.bootID, MaxFiles: d.maxFiles(), MaxProcesses: d.source.MaxProcesses(),
		KernelKey: d.source.FileKey, Ended: d.source.Ended, CgroupPath: d.cgroups.Path, Now: capture.Now,
	}
	if mask := d.inForce.get().StDevMask; mask != nil {
		o.DeviceMask = uint64(*mask)
	}
	if d.helpers != nil {
		o.ReadAs = d.readAs
	}
	d.table = identity.New(o)
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
		defer cancel()
		return d.table.Close(ctx)
	})
	d.names = name.New(name.Options{})
	return nil
}

func (d *daemon) openRecord(context.Context) error {
	c := d.inForce.get()
	recorder, err := d.newRecorder(d.recordOptions(c))
	if err != nil {
		return err
	}
	d.recorder = newScribe(recorder)
	d.onClose(d.recorder.Close)
	wrong, _ := d.inForce.messages()
	for _, problem := range wrong {
		d.fault(problem)
	}
	d.seen = newExecutables(d.mayOpen(c))
	return d.openFeed(c)
}

func (d *daemon) newRecorder(o record.Options) (*record.Recorder, error) {
	o.Ancestors = d.table.Ancestors
	if d.owners != nil {
		o.Explain = d.owners.explain
	}
	files, err := record.NewDirectory(filepath.Join(d.state.dir, "record"))
	if err != nil {
		return nil, err
	}
	r, err := record.New(o, d.dir, files, time.Now)
	if err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	return r, nil
}

// openFeed makes the live view.
func (d *daemon) openFeed(c config.Config) error {
	var err error
	d.feed, err = live.New(live.Options{
		Peek: d, Lineage: d.table.Lineage, Ancestors: d.table.Ancestors, Record: d.recordOptions(c), Log: d.log,
	})
	if err != nil {
		return fmt.Errorf("open live feed: %w", err)
	}
	d.onClose(func() error { d.feed.Close(); return nil })
	return nil
}

// Peek is the window that is being counted now, without the canary's flows.
func (d *daemon) Peek(ctx context.Context) (*capture.Window, error) {
	w, err := d.source.Peek(ctx)
	if err != nil {
		return nil, err
	}
	w.Flows = slices.DeleteFunc(w.Flows, func(f capture.Flow) bool { return d.canary.Owns(&f) })
	return w, nil
}

// fault tells a person, in error.log and by a notice; note tells error.log alone.
func (d *daemon) fault(text string) { d.recorder.Error(text) }
func (d *daemon) note(text string)  { d.recorder.Note(text) }

func (d *daemon) openPipeline(context.Context) error {
	d.openLibraries()
	d.openReverse()
	d.pipeline = &pipeline{
		source: d.source, last: d.position, table: d.table, names: d.names, libraries: d.libraries, recorder: d.recorder, journal: d.journal, log: d.log,
		feed: d.feed, seen: d.seen, reverse: d.reverse,
		hold: min(d.interval()/2, 5*time.Second), everyExe: d.inForce.get().EveryExe, now: time.Now, between: make(chan func(), 1),
	}
	d.openWatch()
	d.reportStart()
	return nil
}

// reportStart tells what this start found: a time without a host, or a journal that was set aside.
func (d *daemon) reportStart() {
	_, alive, err := readPosition(d.journal)
	if err == nil && !alive.IsZero() && !d.source.Continued() {
		d.pipeline.add(gap(wire.GapReason_GAP_HOST_DOWN, "the daemon was not running", alive, d.started))
		d.tellDown(alive, d.started)
	}
	d.reportOff()
	d.tellEdited(d.edited)
	if r, ok := d.journal.Recovered(); ok {
		d.pipeline.add(gap(wire.GapReason_GAP_JOURNAL_CORRUPT, r.Path, alive, d.started))
		d.fault(fmt.Sprintf("journal could not be read and was set aside as %s: %v", r.Path, r.Cause))
	}
}

// keepStart makes safe what reportStart found, once every sink has its place in the journal.
func (d *daemon) keepStart(context.Context) error {
	if err := d.pipeline.journalStart(); err != nil {
		d.log.Warn("it goes with the first window", "error", err)
	}
	if err := d.recorder.use().Flush(); err != nil {
		d.log.Warn("write logs", "error", err)
	}
	return nil
}

// run moves data until ctx ends or a stage fails, and then stops the stages in the order of the data.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()

	plugins, endPlugins := context.WithCancel(context.WithoutCancel(ctx))
	defer endPlugins()
	running.Go(func() {
		if err := d.supervisor.Run(plugins); err != nil && plugins.Err() == nil {
			cancel(fmt.Errorf("supervise plugins: %w", err))
		}
	})
	var err error
	d.server, err = api.Listen(api.Options{
		RunDir: d.settings.RunDir, Owner: d.settings.Owner.UID, Group: d.inForce.get().Host.GroupName(), Log: d.log,
	}, d)
	if err != nil {
		return fmt.Errorf("answer requests: %w", err)
	}
	running.Go(func() { d.listenForChanges(ctx, cancel) })
	if err := d.ready(); err != nil {
		cancel(err)
	}
	d.pipeline.watch.start(ctx)
	err = d.pipeline.run(ctx)
	d.pipeline.watch.close()
	d.log.Info("stopping")
	err = errors.Join(err, d.pipeline.close())
	d.feed.Close() // who watches is told, before the connections go
	d.stopPlugins()
	shutting, done := context.WithTimeout(context.Background(), closeBudget)
	defer done()
	err = errors.Join(err, d.server.Close(shutting), wipe(filepath.Join(d.settings.RunDir, readyFile)))
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// stopPlugins hands sinks what the journal holds. What they do not take in time stays there for the next start: that is
// told, and no failure.
func (d *daemon) stopPlugins() {
	ctx, cancel := context.WithTimeout(context.Background(), drainBudget)
	defer cancel()
	if err := d.supervisor.Stop(ctx); err != nil {
		d.log.Warn("plugins did not take everything in time; the journal keeps it", "error", err)
	}
}

// readyFile appears in the run directory when everything is counted.
const readyFile = "ready"

func (d *daemon) ready() error {
	if err := os.WriteFile(filepath.Join(d.settings.RunDir, readyFile), nil, 0o644); err != nil {
		return fmt.Errorf("say ready: %w", err)
	}
	debug.FreeOSMemory() // the kernel's type information was large, and is done with
	d.log.Info("ready", "after", time.Since(d.started).Round(time.Millisecond), "instance", d.settings.Instance,
		"took over", d.source.Adopted())
	return nil
}
