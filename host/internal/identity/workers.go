package identity

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

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
	exe     *executable
	facts   *capture.Process
	path    string
	file    capture.FileKey
	host    bool      // the path means the same to the host
	patient bool      // the file may yet be handed over
	retried bool      // it was not among those that were
	until   time.Time // for how long it is waited for; zero before it is
	view    view
}

type hashRequest struct {
	exe    *executable
	file   *os.File
	key    capture.FileKey
	stat   capture.FileKey // this and the next two: see executable
	same   bool
	runner *capture.Process
	queued time.Time
}

// longestWait is how long a file is kept open for want of a worker (decision 20).
const longestWait = time.Minute

// workers open and read files beside the path of events.
type workers struct {
	table   *Table
	ctx     context.Context // ends with stop
	cancel  context.CancelFunc
	opens   chan *openRequest // pointers: it is long, and nearly always empty
	serves  chan serveRequest
	claims  chan claimRequest
	waits   chan struct{} // see untidy
	running sync.WaitGroup

	mu     sync.Mutex
	hashes []hashRequest // waiting; each holds an open file, so that there are never more than Options.MaxFiles
	ready  *sync.Cond
	ended  bool
}

func startWorkers(t *Table) *workers {
	w := &workers{
		table: t, opens: make(chan *openRequest, openQueue), serves: make(chan serveRequest, serveQueue),
		claims: make(chan claimRequest, claimQueue), waits: make(chan struct{}, 1),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.ready = sync.NewCond(&w.mu)
	for range openers {
		w.running.Go(w.runOpener)
	}
	for range t.options.Workers {
		w.running.Go(w.runHasher)
	}
	if t.options.ReadAs != nil {
		for range servers {
			w.running.Go(w.runServer)
		}
	}
	for range examiners {
		w.running.Go(w.runExaminer)
	}
	w.running.Go(w.runTidier)
	return w
}

// stop ends the workers and waits for them as long as ctx lasts.
func (w *workers) stop(ctx context.Context) error {
	w.table.mu.Lock() // whoever sends holds it
	w.mu.Lock()
	if !w.ended {
		w.ended = true
		w.ready.Broadcast()
		w.cancel()
		close(w.opens)
		close(w.serves)
		close(w.claims)
	}
	w.mu.Unlock()
	w.table.mu.Unlock()
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

// open queues a request; false if the queue is full or has ended. The caller holds the Table's mutex.
func (w *workers) open(r openRequest) bool {
	if w.ctx.Err() != nil {
		return false
	}
	select {
	case w.opens <- &r:
		return true
	default:
		return false
	}
}

// hash queues a file; false if too many are waiting.
func (w *workers) hash(r hashRequest) bool {
	r.queued = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || len(w.hashes) >= w.table.options.MaxFiles {
		return false
	}
	w.hashes = append(w.hashes, r)
	w.ready.Signal()
	return true
}

func (w *workers) runOpener() {
	for r := range w.opens {
		if r.exe == nil {
			w.table.looked(r.view, w.table.hostSees(r.path, r.file))
			continue
		}
		w.table.find(*r)
	}
}

// find opens an executable, has somebody else read it, or lets it wait until the kernel hands it over.
func (t *Table) find(r openRequest) {
	handed := t.matchHanded(r)
	if handed.file != nil {
		t.openedFile(r.exe, handed)
		return
	}
	t.learn(r.facts.Key.Tgid, r.file.Device)
	if t.mustBeServed(r.file.Device) {
		t.serve(r.exe, r.facts)
		return
	}
	o := t.openExecutable(r)
	if o.file == nil && handed.status == wire.HashStatus_HASH_CHANGED {
		o.status = handed.status // it was handed over, too late: there is nothing to wait for
	} else if o.file == nil && t.waitForHanded(r, o.status) {
		return
	}
	t.openedFile(r.exe, o)
	t.dropHanded(r.facts.Key.Tgid, o.stat)
}

func (w *workers) runHasher() {
	buffer := make([]byte, readSize)
	for {
		r, ok := w.next()
		if !ok {
			return
		}
		read := reading{status: wire.HashStatus_HASH_TIMEOUT}
		if time.Since(r.queued) < longestWait {
			read = w.table.hashFile(r, buffer)
		}
		r.file.Close()
		w.table.hashed(r.exe, read)
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
	w.hashes[0] = hashRequest{}
	w.hashes = w.hashes[1:]
	return r, true
}

// untidy tells that something waits. It does not block.
func (w *workers) untidy() {
	select {
	case w.waits <- struct{}{}:
	default:
	}
}

// runTidier ends what has waited too long. While nothing waits it sleeps, and the machine may.
func (w *workers) runTidier() {
	for {
		select {
		case <-w.waits:
		case <-w.ctx.Done():
			return
		}
		for waiting := true; waiting; {
			select {
			case <-time.After(tidyEvery):
				waiting = w.table.tidy(time.Now())
			case <-w.ctx.Done():
				return
			}
		}
	}
}
