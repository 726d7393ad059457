package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
)

// serviceGrace is how long a killed plugin may take to end before what serves it is stopped all the same.
const serviceGrace = 5 * time.Second

// incarnation is a started plugin.
type incarnation struct {
	life
	client     *sdk.Client
	uid        uint32
	sha256     [32]byte
	sandbox    []string
	hostSocket string
	guard      *guard // nil: nothing watches over it
	fence      *fence
	service    func() // stops what answers it; nil: nothing does
	flight     flight
}

// Close ends the plugin, what answers it and what stood around it. It must be called once.
func (i *incarnation) Close() error {
	i.life.Kill()
	wait(i.life.Done(), serviceGrace)
	if i.service != nil {
		i.service()
	}
	err := i.life.Close()
	if i.fence != nil {
		err = errors.Join(err, i.fence.close())
	}
	return err
}

// launch verifies the file, builds the sandbox and starts the plugin.
func (w *worker) launch(ctx context.Context, thread *process.Thread) (inc *incarnation, err error) {
	home, err := w.openHome(thread)
	if err != nil {
		return nil, err
	}
	defer home.close()
	limit := w.disk()
	if limit != nil {
		if _, err := limit.check(ctx); err != nil {
			return nil, err
		}
	}
	rules := executable.Rules{Host: w.o.HostBin, SHA256: w.spec.SHA256, RunAs: home.sandbox.UID}
	if w.spec.AsOwner {
		rules.Trust = []uint32{w.spec.Owner.UID} // it gains nothing by being run so
	}
	file, err := executable.Open(w.spec.Path, rules)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	dir := w.o.socketDir(w.spec.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	fence, err := w.fenceIn(ctx, home)
	if err != nil {
		return nil, errors.Join(err, fence.close())
	}
	i, err := instance.Start(ctx, instance.Options{
		Name: w.spec.Name, File: file, Thread: thread, Sandbox: &home.sandbox, SocketDir: dir,
		MemoryMB: w.spec.memory(), Timeout: w.o.Start, Log: w.o.Log.With(slog.String("plugin", w.spec.Name)),
		Listener: fence.listener, Serve: w.o.HostService != nil,
	})
	if err != nil {
		return nil, errors.Join(err, fence.close())
	}
	fence.started()
	inc = &incarnation{life: i, client: i.Client, uid: home.sandbox.UID, sha256: file.SHA256, fence: fence}
	inc.guard = w.guardOf(inc, limit, home.directory)
	inc.sandbox = sandboxWords(i, home)
	if w.o.HostService != nil {
		inc.hostSocket, inc.service = i.HostSocket(), w.o.HostService(w.spec.Name, i.HostListener())
	}
	return inc, nil
}

// sandboxWords is what the launcher and the host did, and could not do.
func sandboxWords(i *instance.Instance, h *home) []string {
	enforced, missing := i.Sandbox()
	words := slices.Concat(enforced, h.words)
	for _, what := range slices.Concat(missing, h.missing) {
		words = append(words, "NOT enforced: "+what)
	}
	return words
}

// disk is what the plugin may fill, nil if that has no bound.
func (w *worker) disk() *disk {
	if w.spec.DiskMB <= 0 {
		return nil
	}
	d := &disk{limitMB: w.spec.DiskMB, paths: []string{w.spec.Directory}}
	for path, mode := range w.spec.Paths {
		if mode == "rw" {
			d.paths = append(d.paths, path)
		}
	}
	return d
}

func (w *worker) guardOf(inc *incarnation, d *disk, directory fs.FileInfo) *guard {
	if d != nil {
		d.pids = func() []int { return []int{inc.PID()} }
		if inc.fence.group != nil {
			d.pids = inc.fence.group.Processes
		}
	}
	return &guard{
		disk: d, network: inc.fence.network, directory: place{w.spec.Directory, directory},
		sockets: w.o.socketDir(w.spec.Name), board: w.board,
	}
}
