package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/marks"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ServedFile says where a file can be found that the host does not open itself.
type ServedFile struct {
	File     *os.File        // an O_PATH descriptor of what Pid runs, nil if it had ended; it is closed when ReadAs has returned
	Pid      uint32          // that runs it, in the host's pid namespace; it may have ended, and another may have the number
	Path     string          // in the process's mount namespace
	HostPath bool            // the path means the same to the host
	MaxSize  int64           // bytes; more is ErrTooLarge
	Want     capture.FileKey // as it was executed
}

// What ReadAs may say.
var (
	ErrTooLarge = errors.New("file is too large")
	ErrChanged  = errors.New("file changed while it was read")
)

// servers are as many as helpers may run at a time (decision 19).
const (
	servers    = 4
	serveQueue = 1024
)

// serveRequest asks to have an executable read by somebody else.
type serveRequest struct {
	exe      *executable
	file     ServedFile
	uid, gid uint32
	queued   time.Time
}

// serve has an executable read on behalf of the user who may.
func (t *Table) serve(e *executable, p *capture.Process) {
	// The link is followed without a word to whoever serves the file.
	link := fmt.Sprintf("%s/%d/exe", t.options.ProcRoot, p.Key.Tgid)
	file, err := os.OpenFile(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		file = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	uid, gid := p.EUID, p.GID
	if fs, known := t.systems.find(e.id.file.Device); known && fs.Kind == marks.Served && fs.Readable != 0 {
		uid, gid = fs.Readable, fs.Group
	}
	r := serveRequest{exe: e, uid: uid, gid: gid, queued: time.Now(), file: ServedFile{
		File: file, Pid: p.Key.Tgid, Path: string(p.Path.Value), HostPath: t.atHome(p), MaxSize: t.options.MaxHash, Want: e.id.file,
	}}
	e.opening = true
	if t.workers.ctx.Err() == nil {
		select {
		case t.workers.serves <- r:
			return
		default:
		}
	}
	r.file.close()
	e.opening = false
	t.settle(e, wire.HashStatus_HASH_TIMEOUT, nil)
}

func (f ServedFile) close() {
	if f.File != nil {
		f.File.Close()
	}
}

// mustBeServed tells whether opening a file may block for ever: somebody else than the kernel answers for it, or nobody
// knows who does.
func (t *Table) mustBeServed(device uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.options.ReadAs == nil || t.systems.host == nil || device == t.systems.memory {
		return false
	}
	fs, known := t.systems.find(device)
	if !known {
		return true
	}
	_, host := t.systems.host[device]
	return fs.Kind == marks.Served || fs.Kind == marks.Stacked && !host
}

// runServer has files read until the workers end.
func (w *workers) runServer() {
	for r := range w.serves {
		ctx, cancel := context.WithDeadline(w.ctx, r.queued.Add(w.table.options.HashTimeout))
		sum, key, err := []byte(nil), capture.FileKey{}, ctx.Err()
		if err == nil {
			sum, key, err = w.table.options.ReadAs(ctx, r.file, r.uid, r.gid)
		}
		cancel()
		r.file.close()
		w.table.servedHash(r.exe, sum, servedStatus(r.file.Want, key, err))
	}
}

func servedStatus(want, have capture.FileKey, err error) wire.HashStatus {
	switch {
	case err == nil && likenessOf(have, want) == same:
		return wire.HashStatus_HASH_AS_SERVED
	case err == nil && likenessOf(have, want) == changed:
		return wire.HashStatus_HASH_CHANGED
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return wire.HashStatus_HASH_GONE
	case errors.Is(err, ErrChanged):
		return wire.HashStatus_HASH_CHANGED
	case errors.Is(err, ErrTooLarge):
		return wire.HashStatus_HASH_TOO_LARGE
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return wire.HashStatus_HASH_TIMEOUT
	}
	return wire.HashStatus_HASH_UNREADABLE
}

func (t *Table) servedHash(e *executable, sum []byte, status wire.HashStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.opening = false
	if status != wire.HashStatus_HASH_AS_SERVED {
		sum = nil
	}
	t.settle(e, status, sum)
}
