package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

// home is what of the host's file system a plugin may see and change, and who it is.
type home struct {
	sandbox process.Sandbox
	words   []string // how its files are owned
	missing []string
	ids     *os.File // idmap, nil when there is none

	directory fs.FileInfo // its own
}

func (h *home) close() {
	for _, m := range h.sandbox.Mounts {
		_ = m.Close()
	}
	if h.ids != nil {
		_ = h.ids.Close()
	}
}

// openHome opens the plugin's directory and the paths granted to it, and decides which user it is.
func (w *worker) openHome(thread *process.Thread) (h *home, err error) {
	h = &home{sandbox: process.Sandbox{UID: w.uid, GID: w.uid, Network: len(w.spec.Network) > 0, Processes: maxProcesses}}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if w.spec.DiskMB > 0 {
		h.words = append(h.words, fmt.Sprintf("disk: %d MiB, measured at least every %v", w.spec.DiskMB, measureEvery))
	} else {
		h.missing = append(h.missing, "disk: no bound is configured")
	}
	var former []uint32 // without idmapped mounts root's directory was given to the plugin's own user
	if w.spec.Owner.UID == 0 {
		former = []uint32{w.uid}
	}
	dir, err := process.OpenDirectory(w.spec.Directory, w.spec.Owner, former...)
	if err != nil {
		return h, err
	}
	defer func() { _ = dir.Close() }()
	if h.directory, err = dir.Stat(); err != nil {
		return h, fmt.Errorf("look at %s: %w", w.spec.Directory, err)
	}
	if w.spec.AsOwner {
		h.beOwner(w.spec.Owner, "as configured")
	} else if h.ids, err = process.NewIDMap(thread, w.spec.Owner, w.uid, w.uid); err != nil {
		h.withoutMap(w.spec.Owner, dir, err)
	}
	err = h.mount(dir, w.spec.Directory, false)
	if errors.Is(err, process.ErrNoIDMap) {
		_ = h.ids.Close()
		h.ids = nil
		h.withoutMap(w.spec.Owner, dir, err)
		err = h.mount(dir, w.spec.Directory, false)
	}
	if err != nil {
		return h, err
	}
	for _, path := range slices.Sorted(maps.Keys(w.spec.Paths)) {
		if err := h.grant(path, w.spec.Owner, w.spec.Paths[path] == "ro"); err != nil {
			return h, err
		}
	}
	return h, nil
}

// withoutMap chooses what is left where files cannot be shown as another user's.
func (h *home) withoutMap(owner process.Owner, dir *os.File, cause error) {
	if owner.UID != 0 {
		h.beOwner(owner, cause.Error())
		return
	}
	// Root's plugin stays itself, and its directory becomes its own.
	if err := dir.Chown(int(h.sandbox.UID), int(h.sandbox.GID)); err != nil {
		cause = errors.Join(cause, err)
	}
	h.missing = append(h.missing, fmt.Sprintf("files belong to uid %d, not to root: %v", h.sandbox.UID, cause))
}

// beOwner makes the plugin run as the configuration's owner.
func (h *home) beOwner(owner process.Owner, why string) {
	h.sandbox.UID, h.sandbox.GID, h.sandbox.Processes = owner.UID, owner.GID, 0
	h.missing = append(h.missing, fmt.Sprintf("user of its own: it runs as uid %d (%s)", owner.UID, why))
}

func (h *home) grant(path string, owner process.Owner, readOnly bool) error {
	file, err := process.OpenPath(path, owner)
	if err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	defer func() { _ = file.Close() }()
	return h.mount(file, path, readOnly)
}

func (h *home) mount(source *os.File, path string, readOnly bool) error {
	m, err := process.NewMount(source, path, h.ids, readOnly)
	if err != nil {
		return err
	}
	if h.ids != nil && len(h.sandbox.Mounts) == 0 {
		h.words = append(h.words, "files: owned on disk by the configuration's owner (idmapped mount)")
	}
	h.sandbox.Mounts = append(h.sandbox.Mounts, m)
	return nil
}
