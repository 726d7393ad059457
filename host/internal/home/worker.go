package home

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"
)

var (
	// ErrStuck says that the file system has not answered for ten seconds, or still does not.
	ErrStuck = errors.New("the file system does not answer")
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("directory is closed")
)

// patience is how long a caller waits.
const patience = 10 * time.Second

// worker runs functions on a thread that has a user's rights on files.
type worker struct {
	requests chan request
	quit     chan struct{} // closed by close
	done     chan struct{} // closed when the thread has ended
	since    atomic.Int64  // when the request under way began, ns since started; 0 while there is none
	started  time.Time
	patience time.Duration
}

type request struct {
	run   func() error
	reply chan error // capacity 1: the caller may have given up
}

// startWorker starts the thread, or says why it cannot have the owner's rights.
func startWorker(owner Owner) (*worker, error) {
	w := &worker{
		requests: make(chan request), quit: make(chan struct{}), done: make(chan struct{}),
		started: time.Now(), patience: patience,
	}
	ready := make(chan error, 1)
	go w.loop(owner, ready)
	if err := <-ready; err != nil {
		<-w.done
		return nil, err
	}
	return w, nil
}

// loop owns the thread. It never unlocks it: with the goroutine the thread ends, and with it the changed rights.
func (w *worker) loop(owner Owner, ready chan<- error) {
	defer close(w.done)
	runtime.LockOSThread()
	err := become(owner)
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case <-w.quit:
			return
		case r := <-w.requests:
			w.since.Store(int64(time.Since(w.started)))
			err := r.run()
			w.since.Store(0)
			r.reply <- err
		}
	}
}

// do runs fn on the thread and returns its error. After ErrStuck fn may still run: it must not write to what its caller
// reads afterwards.
func (w *worker) do(fn func() error) error {
	select {
	case <-w.quit:
		return ErrClosed
	default:
	}
	if since := w.since.Load(); since != 0 && time.Since(w.started)-time.Duration(since) > w.patience {
		return ErrStuck
	}
	r := request{run: fn, reply: make(chan error, 1)}
	timeout := time.NewTimer(w.patience)
	defer timeout.Stop()
	select {
	case w.requests <- r:
	case <-w.quit:
		return ErrClosed
	case <-timeout.C:
		return ErrStuck
	}
	select {
	case err := <-r.reply:
		return err
	case <-timeout.C:
		return ErrStuck
	}
}

// close ends the thread. One that is stuck in the kernel cannot be ended: it is left to itself, and ErrStuck says so.
func (w *worker) close() error {
	close(w.quit)
	timeout := time.NewTimer(w.patience)
	defer timeout.Stop()
	select {
	case <-w.done:
		return nil
	case <-timeout.C:
		return ErrStuck
	}
}
