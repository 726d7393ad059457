package process

import "runtime"

// Thread is the one operating system thread that children are started from. It must outlive them: the kernel kills them
// when it ends.
type Thread struct {
	jobs chan func()
	done chan struct{}
}

// NewThread starts the thread. The caller closes it once all children have ended.
func NewThread() *Thread {
	t := &Thread{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread() // the thread stays: only a goroutine that ends locked takes it along
		for job := range t.jobs {
			job()
		}
	}()
	return t
}

// do runs job on the thread and waits for it.
func (t *Thread) do(job func()) {
	finished := make(chan struct{})
	t.jobs <- func() {
		defer close(finished)
		job()
	}
	<-finished
}

// Close ends the goroutine. Nothing may be started afterwards.
func (t *Thread) Close() {
	close(t.jobs)
	<-t.done
}
