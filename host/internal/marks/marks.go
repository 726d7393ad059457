package marks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sink takes what Marks sees. Its methods are called in the kernel's order, Mounts from another goroutine than the rest;
// none of them may block.
type Sink interface {
	// Executed hands over a file that a process opened to execute it: the program, and before it its script, its
	// interpreter or its loader. The file is the sink's to close, soon.
	Executed(pid uint32, file *os.File)
	// Modified tells that a watched file was written to. Device and inode are those that stat shows.
	Modified(device, inode uint64)
	// Overflow tells that any file watched so far may have been written to: events were lost, or there were too many files
	// to watch. It may be called from within Watch.
	Overflow()
	// Mounts gives the host's mount table, at start and whenever it changes.
	Mounts(host []Mount)
	// Foreign gives the mount table of another mount namespace, as often as it was looked at.
	Foreign(namespace uint32, mounts []Mount)
}

// Options of [Open]. Zero values mean the defaults named.
type Options struct {
	ProcRoot   string       // /proc
	MaxWatched int          // files watched for writes; 65,536: beyond it all are let go
	Overflowed func()       // called after the sink was, when events were lost; may be nil
	Report     func(string) // takes what a person should hear of, such as a file system that cannot be marked; may be nil
}

// Counters tell what Marks did and could not do. All but the first two only grow.
type Counters struct {
	FileSystems uint64 // that carry a mark, of the host's mount table
	Watched     uint64 // files watched for writes
	Executions  uint64 // files handed over
	Writes      uint64 // to watched files
	Overflows   uint64 // of the kernel's queue
	Unopened    uint64 // events whose file the kernel could not open
	Unmarked    uint64 // attempts to mark a file system that failed
	Unwatched   uint64 // files no longer watched because there were too many
	Namespaces  uint64 // other mount namespaces looked at
	Skipped     uint64 // requests to look at one, left out because too many were waiting
}

// Marks owns the kernel's queue of events and the marks that fill it.
type Marks struct {
	options Options
	group   int
	wake    int // eventfd: Close was called
	poke    int // eventfd: somebody waits in Sync
	running sync.WaitGroup
	looks   chan look
	ctx     context.Context // of the three goroutines; ends with Close
	cancel  context.CancelFunc

	counting sync.Mutex // of its own: who reads the queue waits for nobody
	counters Counters

	mu      sync.Mutex
	closed  bool
	watched map[file]bool       // for writes
	sink    Sink                // since Start
	waiting []chan struct{}     // in Sync
	seen    map[place]time.Time // when a namespace was looked at for a device
	members map[uint32][]uint32 // processes of other namespaces, some of them ended
	refused map[string]bool     // complaints already made
}

// Open makes the queue. Nothing is marked before Start. It needs CAP_SYS_ADMIN.
func Open(o Options) (*Marks, error) {
	if o.ProcRoot == "" {
		o.ProcRoot = "/proc"
	}
	if o.MaxWatched == 0 {
		o.MaxWatched = 65536
	}
	// No unlimited queue: each event in it holds on to a mount and to memory, and anybody can execute files.
	group, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK,
		unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("open fanotify queue: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(group)
		return nil, fmt.Errorf("open event descriptor: %w", err)
	}
	poke, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_, _ = unix.Close(group), unix.Close(wake)
		return nil, fmt.Errorf("open event descriptor: %w", err)
	}
	m := &Marks{
		options: o, group: group, wake: wake, poke: poke, looks: make(chan look, maxLooks),
		watched: map[file]bool{}, seen: map[place]time.Time{}, members: map[uint32][]uint32{}, refused: map[string]bool{},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// Start marks the host's file systems and begins to call sink. When it returns, every execution on a local file system of
// the host is handed over. It is called once.
func (m *Marks) Start(sink Sink) error {
	m.mu.Lock()
	begun := m.sink != nil || m.closed
	if !begun {
		m.sink = sink
	}
	m.mu.Unlock()
	if begun {
		return errors.New("start marks: started or closed before")
	}
	table, err := openTable(m.options.ProcRoot + "/self/mountinfo")
	if err != nil {
		return err
	}
	mounts, err := table.read()
	if err != nil {
		table.close()
		return err
	}
	m.markHost(mounts)
	sink.Mounts(mounts)
	m.running.Go(func() { m.readQueue(sink) })
	m.running.Go(func() { m.followMounts(table, sink) })
	m.running.Go(func() { m.lookAround(sink) })
	return nil
}

// Close ends the goroutines and takes all marks away. A goroutine that does not end before ctx does is left behind, with
// the queue.
func (m *Marks) Close(ctx context.Context) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	_, _ = unix.Write(m.wake, one()) // the counter cannot be full: this is the only write
	ended := make(chan struct{})
	go func() {
		m.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("stop following file systems: %w", ctx.Err())
	}
	return errors.Join(os.NewSyscallError("close", unix.Close(m.group)), os.NewSyscallError("close", unix.Close(m.wake)),
		os.NewSyscallError("close", unix.Close(m.poke)))
}

// one is what adds one to an eventfd.
func one() []byte { return binary.NativeEndian.AppendUint64(nil, 1) }

// Counters gives a snapshot.
func (m *Marks) Counters() Counters {
	m.mu.Lock()
	watched := len(m.watched)
	m.mu.Unlock()
	m.counting.Lock()
	defer m.counting.Unlock()
	c := m.counters
	c.Watched = uint64(watched)
	return c
}

func (m *Marks) count(add func(*Counters)) {
	m.counting.Lock()
	defer m.counting.Unlock()
	add(&m.counters)
}

// complain says each thing once; so many things cannot be, and what is beyond them is in the counters.
func (m *Marks) complain(text string) {
	m.mu.Lock()
	silent := m.options.Report == nil || m.refused[text] || len(m.refused) >= maxReports
	if !silent {
		m.refused[text] = true
	}
	m.mu.Unlock()
	if !silent {
		m.options.Report(text)
	}
}

const maxReports = 256
