package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openers are many because opening is quick and urgent, and one may hang in a dead file system.
const (
	openers   = 8
	openQueue = 16384
)

// openRequest asks to open an executable, or without one whether the host sees the file at the path.
type openRequest struct {
	exe  *executable
	pid  uint32
	path string
	file capture.FileKey
}

type hashRequest struct {
	exe  *executable
	file *os.File
	key  capture.FileKey
}

// workers open and read files beside the path of events.
type workers struct {
	table   *Table
	opens   chan openRequest
	running sync.WaitGroup

	mu     sync.Mutex
	hashes []hashRequest // waiting; each holds an open file, so that Options.MaxFiles bounds them
	ready  *sync.Cond
	ended  bool
}

func startWorkers(t *Table) *workers {
	w := &workers{table: t, opens: make(chan openRequest, openQueue)}
	w.ready = sync.NewCond(&w.mu)
	for range openers {
		w.running.Go(w.runOpener)
	}
	for range t.options.Workers {
		w.running.Go(w.runHasher)
	}
	return w
}

// stop ends the workers and waits for them as long as ctx lasts.
func (w *workers) stop(ctx context.Context) error {
	w.mu.Lock()
	w.ended = true
	w.ready.Broadcast()
	w.mu.Unlock()
	close(w.opens)
	ended := make(chan struct{})
	go func() {
		w.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop file workers: %w", ctx.Err())
	}
}

// open queues a request; false if the queue is full.
func (w *workers) open(r openRequest) bool {
	select {
	case w.opens <- r:
		return true
	default:
		return false
	}
}

func (w *workers) hash(r hashRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hashes = append(w.hashes, r)
	w.ready.Signal()
}

func (w *workers) runOpener() {
	for r := range w.opens {
		if r.exe == nil {
			w.table.looked(view{r.path, r.file}, w.table.hostSees(r.path, r.file))
			continue
		}
		file, status := w.table.openExecutable(r)
		w.table.openedFile(r.exe, file, status)
	}
}

func (w *workers) runHasher() {
	buffer := make([]byte, 256<<10)
	for {
		r, ok := w.next()
		if !ok {
			return
		}
		sum, status := w.table.hashFile(r, buffer)
		r.file.Close()
		w.table.hashed(r.exe, sum, status)
	}
}

func (w *workers) next() (hashRequest, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.hashes) == 0 && !w.ended {
		w.ready.Wait()
	}
	if len(w.hashes) == 0 {
		return hashRequest{}, false
	}
	r := w.hashes[0]
	w.hashes = w.hashes[1:]
	return r, true
}

// errTimeout tells that a file took too long to read.
var errTimeout = errors.New("took too long")

// hashFile reads a whole file and makes sure that it was, before and after, what the kernel executed.
func (t *Table) hashFile(r hashRequest, buffer []byte) ([]byte, wire.HashStatus) {
	if r.key.Size > uint64(t.options.MaxHash) {
		return nil, wire.HashStatus_HASH_TOO_LARGE
	}
	served := served(int(r.file.Fd()))
	sum, err := digest(r.file, buffer, t.deadline())
	switch {
	case errors.Is(err, errTimeout):
		return nil, wire.HashStatus_HASH_TIMEOUT
	case err != nil:
		return nil, wire.HashStatus_HASH_UNREADABLE
	case !t.unchanged(r.file, r.key):
		return nil, wire.HashStatus_HASH_CHANGED
	case served:
		return sum, wire.HashStatus_HASH_AS_SERVED
	}
	return sum, wire.HashStatus_HASH_OK
}

func digest(file io.ReaderAt, buffer []byte, deadline time.Time) ([]byte, error) {
	h := sha256.New()
	for offset := int64(0); ; {
		n, err := file.ReadAt(buffer, offset)
		h.Write(buffer[:n])
		offset += int64(n)
		if errors.Is(err, io.EOF) {
			return h.Sum(nil), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read executable: %w", err)
		}
		if time.Now().After(deadline) {
			return nil, errTimeout
		}
	}
}

// served tells whether the file system may give other bytes to other readers (FUSE, network).
func served(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	switch st.Type {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.CODA_SUPER_MAGIC:
		return true
	}
	return false
}
