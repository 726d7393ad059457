package main

import (
	"errors"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/io_uring.h.
const (
	opSendMessage    = 9
	opSend           = 26
	opReceive        = 27
	opProvideBuffers = 31
	opSendZeroCopy   = 47

	setupPoll       = 1 << 1 // IORING_SETUP_SQPOLL
	enterGetEvents  = 1 << 0
	enterWakeUp     = 1 << 1
	queueNeedWakeUp = 1 << 0

	sqeFixedFile    = 1 << 0
	sqeAsync        = 1 << 4
	sqeSelectBuffer = 1 << 5

	receiveMultishot = 1 << 1 // in priority
	cqeMore          = 1 << 1
	cqeNotification  = 1 << 3

	offsetCompletions = 0x8000000
	offsetEntries     = 0x10000000

	registerFiles = 2
)

// submission is struct io_uring_sqe.
type submission struct {
	operation, flags uint8
	priority         uint16
	fd               int32
	offset, address  uint64
	length, how      uint32 // how: msg_flags
	data             uint64
	group            uint16 // of buffers
	_                [22]byte
}

// completion is struct io_uring_cqe.
type completion struct {
	data   uint64
	result int32
	flags  uint32
}

// ringParams is struct io_uring_params.
type ringParams struct {
	entries, completions, flags, threadCPU, threadIdle, features, workers uint32
	_                                                                     [3]uint32
	sq                                                                    struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, entry, flags, _ uint32
		_                                                    uint64
	}
}

// ring is one io_uring, used by one goroutine and one submission at a time.
type ring struct {
	fd      int
	params  ringParams
	submits []byte // the submission queue's head, tail and indexes
	results []byte // the completion queue
	entries []byte // the submissions
}

func newRing(flags uint32) (*ring, error) {
	r := &ring{params: ringParams{flags: flags, threadIdle: 200}}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		return nil, errno
	}
	r.fd = int(fd)
	q := &r.params
	for _, area := range []struct {
		to     *[]byte
		offset int64
		size   uint32
	}{
		{&r.submits, 0, q.sq.array + q.entries*4},
		{&r.results, offsetCompletions, q.cq.entry + q.completions*uint32(unsafe.Sizeof(completion{}))},
		{&r.entries, offsetEntries, q.entries * uint32(unsafe.Sizeof(submission{}))},
	} {
		mapped, err := unix.Mmap(r.fd, area.offset, int(area.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return nil, errors.Join(err, unix.Close(r.fd))
		}
		*area.to = mapped
	}
	return r, nil
}

func word(area []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&area[offset])) }

// submit hands one submission over.
func (r *ring) submit(s submission) error {
	q := &r.params.sq
	tail := word(r.submits, q.tail)
	index := *tail & *word(r.submits, q.mask)
	*(*submission)(unsafe.Pointer(&r.entries[uintptr(index)*unsafe.Sizeof(s)])) = s
	*word(r.submits, q.array+index*4) = index
	atomic.StoreUint32(tail, *tail+1)
	if r.params.flags&setupPoll == 0 {
		return r.enter(1, 0)
	}
	if atomic.LoadUint32(word(r.submits, q.flags))&queueNeedWakeUp != 0 {
		return r.enter(1, enterWakeUp)
	}
	return nil
}

func (r *ring) enter(submit, flags uintptr) error {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, 0, flags, 0, 0)
		if errno != unix.EINTR {
			return asError(errno)
		}
	}
}

func asError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// wait gives the next completion.
func (r *ring) wait() (completion, error) {
	q := &r.params.cq
	for end := time.Now().Add(10 * time.Second); ; {
		head := *word(r.results, q.head)
		if head != atomic.LoadUint32(word(r.results, q.tail)) {
			index := head & *word(r.results, q.mask)
			c := *(*completion)(unsafe.Pointer(&r.results[uintptr(q.entry)+uintptr(index)*unsafe.Sizeof(completion{})]))
			atomic.StoreUint32(word(r.results, q.head), head+1)
			return c, nil
		}
		if time.Now().After(end) {
			return completion{}, unix.ETIMEDOUT
		}
		if err := r.enter(0, enterGetEvents); err != nil { // runs work that waits for this thread
			return completion{}, err
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// do makes one call by way of the ring.
func (r *ring) do(s submission) (int, error) {
	if err := r.submit(s); err != nil {
		return 0, err
	}
	c, err := r.wait()
	return c.outcome(err)
}

func (c completion) outcome(err error) (int, error) {
	if err == nil && c.result < 0 {
		err = unix.Errno(-c.result)
	}
	return int(c.result), err
}

// hold makes the socket the ring's file number 0.
func (r *ring) hold(fd int) error {
	files := []int32{int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerFiles,
		uintptr(unsafe.Pointer(&files[0])), 1, 0, 0)
	return asError(errno)
}

func (r *ring) close() error {
	return errors.Join(unix.Munmap(r.submits), unix.Munmap(r.results), unix.Munmap(r.entries), unix.Close(r.fd))
}
