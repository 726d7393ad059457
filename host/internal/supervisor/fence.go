package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/peers"
)

// maxProcesses bounds threads and processes of one plugin.
const maxProcesses = 256

// fence is what stands around one incarnation on the host's side, from before its first instruction until after its last.
type fence struct {
	group    *group.Group // nil: none
	network  *network     // nil: it has none, or all of it
	listener *os.File     // nil: none
}

// fenceIn builds it, and completes what the sandbox says and grants. The caller closes it also after an error.
func (w *worker) fenceIn(ctx context.Context, h *home) (f *fence, err error) {
	f = &fence{}
	bounded := h.sandbox.Processes > 0
	if w.groups != nil {
		f.group = w.groups.Make(w.spec.Name, group.Limits{MemoryMB: w.spec.memory(), Processes: maxProcesses})
		h.sandbox.Group = f.group
		enforced, missing := f.group.Words()
		h.words, h.missing = append(h.words, enforced...), append(h.missing, missing...)
		if _, processes := f.group.Bounds(); processes {
			h.sandbox.Processes, bounded = 0, true
		}
	}
	if !bounded {
		h.missing = append(h.missing, "processes: they share the bound of all that its user runs")
	}
	if h.sandbox.Network && !w.spec.everywhere() {
		if err := w.fenceNetwork(ctx, h, f); err != nil {
			return f, err
		}
	}
	if w.spec.Listen != "" {
		if err := w.openDoor(ctx); err != nil {
			return f, err
		}
		if f.listener, err = w.door.copy(); err != nil {
			return f, err
		}
		h.words = append(h.words, "listener: "+w.spec.Listen+", made by the host")
	}
	return f, nil
}

func (w *worker) fenceNetwork(ctx context.Context, h *home, f *fence) error {
	granted, err := peers.ParseAll(w.spec.Network)
	if err != nil {
		return err
	}
	h.sandbox.Ports = []uint16{}
	for _, p := range granted {
		h.sandbox.Ports = append(h.sandbox.Ports, p.Port)
	}
	var cause error
	if f.network, cause, err = newNetwork(ctx, granted, f.group, w.o.socketDir(w.spec.Name)); err != nil {
		return err
	}
	if cause != nil {
		h.missing = append(h.missing, fmt.Sprintf("network: only to the peers granted: %v", cause))
	} else {
		h.words = append(h.words, fmt.Sprintf("network: only %v (programs on its control group)", w.spec.Network))
	}
	return f.network.mount(h)
}

// started drops what only the start needed.
func (f *fence) started() {
	if f.listener != nil {
		_ = f.listener.Close()
		f.listener = nil
	}
}

// close takes the fence down; the plugin is gone.
func (f *fence) close() error {
	f.started()
	var errs []error
	if f.group != nil {
		errs = append(errs, f.group.Close()) // first: it ends what may be left, which the filter must outlive
	}
	if f.network != nil {
		errs = append(errs, f.network.close())
	}
	return errors.Join(errs...)
}
