package marks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// batch bounds how many files one read of the queue opens at a time: 170.
const batch = 4096

// urgent is the priority of the thread that reads the queue: a file is the one that was executed only until somebody
// writes to it, and the event says nothing about when that was.
const urgent = -15

// readQueue hands events to the sink until Close.
func (m *Marks) readQueue(sink Sink) {
	runtime.LockOSThread()                                         // for good: the thread ends with this goroutine
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), urgent) // without the right to it, it is only slower
	buffer := make([]byte, batch)
	fds := []unix.PollFd{
		{Fd: int32(m.group), Events: unix.POLLIN}, {Fd: int32(m.wake), Events: unix.POLLIN}, {Fd: int32(m.poke), Events: unix.POLLIN},
	}
	for m.ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			m.complain("wait for the fanotify queue: " + err.Error())
			return
		}
		if fds[2].Revents != 0 {
			_, _ = unix.Read(m.poke, buffer) // it is readable, and only this goroutine reads it
		}
		waiting := m.takeWaiting()
		m.drain(buffer, sink)
		for _, w := range waiting {
			close(w)
		}
	}
}

func (m *Marks) takeWaiting() []chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.waiting
	m.waiting = nil
	return waiting
}

// Sync waits until the sink has been told of everything that happened before. It returns ctx.Err() if ctx ends first, which
// it does if Marks is not running.
func (m *Marks) Sync(ctx context.Context) error {
	done := make(chan struct{})
	m.mu.Lock()
	if !m.closed {
		m.waiting = append(m.waiting, done)
		_, _ = unix.Write(m.poke, one()) // if it is full, it is readable
	}
	m.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-m.ctx.Done():
		return fmt.Errorf("wait for the fanotify queue: %w", m.ctx.Err())
	case <-ctx.Done():
		return fmt.Errorf("wait for the fanotify queue: %w", ctx.Err())
	}
}

// drain takes what is in the queue now. An error concerns the first event alone, which the kernel has dropped: its file
// could not be opened any more.
func (m *Marks) drain(buffer []byte, sink Sink) {
	for m.ctx.Err() == nil {
		n, err := unix.Read(m.group, buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
		case err != nil:
			m.count(func(c *Counters) { c.Unopened++ })
			if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EFAULT) {
				m.complain("read the fanotify queue: " + err.Error())
				return
			}
		default:
			m.deliver(buffer[:n], sink)
		}
	}
}

// metadata is the size of one event without further information, which this queue does not ask for.
const metadata = 24

// deliver hands out the events of one read. The kernel may have put a write and an execution of one file by one process
// together; the write is told first, since a process cannot write to what it runs.
func (m *Marks) deliver(events []byte, sink Sink) {
	for len(events) >= metadata {
		length := binary.NativeEndian.Uint32(events)
		mask := binary.NativeEndian.Uint64(events[8:])
		fd := int32(binary.NativeEndian.Uint32(events[16:]))
		pid := binary.NativeEndian.Uint32(events[20:])
		if length < metadata || int(length) > len(events) {
			return
		}
		events = events[length:]
		if mask&unix.FAN_Q_OVERFLOW != 0 {
			m.overflow(sink)
			continue
		}
		if fd < 0 {
			m.count(func(c *Counters) { c.Unopened++ })
			continue
		}
		m.event(mask, int(fd), pid, sink)
	}
}

func (m *Marks) overflow(sink Sink) {
	m.count(func(c *Counters) { c.Overflows++ })
	sink.Overflow()
	if m.options.Overflowed != nil {
		m.options.Overflowed()
	}
}

func (m *Marks) event(mask uint64, fd int, pid uint32, sink Sink) {
	if mask&unix.FAN_MODIFY != 0 {
		m.count(func(c *Counters) { c.Writes++ })
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil {
			sink.Modified(st.Dev, st.Ino)
		}
	}
	if mask&unix.FAN_OPEN_EXEC == 0 {
		_ = unix.Close(fd)
		return
	}
	m.count(func(c *Counters) { c.Executions++ })
	sink.Executed(pid, os.NewFile(uintptr(fd), "executed"))
}
