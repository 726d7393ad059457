package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageBuffer gives whole pages of their own, which the kernel may take or look at after the call.
func pageBuffer(content []byte) ([]byte, error) {
	pages, err := unix.Mmap(-1, 0, max(len(content), 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	copy(pages, content)
	return pages, nil
}

// sendFile goes from a file in memory straight to the socket.
func sendFile(_ *puppet, s *socket, buf []byte, _ unix.Sockaddr) (_ []moved, err error) {
	fd, err := unix.MemfdCreate("payload", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "payload")
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteAt(buf, 0); err != nil {
		return nil, fmt.Errorf("fill file: %w", err)
	}
	offset := int64(0)
	return one(unix.Sendfile(s.fd, fd, &offset, len(buf)))
}

// pipe is a pipe with room for what tests splice.
type pipe struct{ read, write int }

func newPipe() (pipe, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return pipe{}, err
	}
	_, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, 1<<20)
	return pipe{ends[0], ends[1]}, err
}

func (p pipe) close() error { return errors.Join(unix.Close(p.read), unix.Close(p.write)) }

func spliceOut(_ *puppet, s *socket, buf []byte, _ unix.Sockaddr) (_ []moved, err error) {
	buf = buf[:min(len(buf), 64<<10)]
	p, err := newPipe()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if _, err := unix.Write(p.write, buf); err != nil {
		return nil, err
	}
	n, err := unix.Splice(p.read, nil, s.fd, nil, len(buf), 0)
	return one(int(n), err)
}

// vmspliceOut lends pages to a pipe; on they go by splice.
func vmspliceOut(_ *puppet, s *socket, buf []byte, _ unix.Sockaddr) (_ []moved, err error) {
	buf = buf[:min(len(buf), 64<<10)]
	pages, err := pageBuffer(buf) // never unmapped: the receiver may not have read them yet
	if err != nil {
		return nil, err
	}
	p, err := newPipe()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	vector := unix.Iovec{Base: unsafe.SliceData(pages)}
	vector.SetLen(len(buf))
	if _, err := unix.Vmsplice(p.write, []unix.Iovec{vector}, 0); err != nil {
		return nil, err
	}
	n, err := unix.Splice(p.read, nil, s.fd, nil, len(buf), 0)
	return one(int(n), err)
}

func spliceIn(_ *puppet, s *socket, buf []byte, want int) (_ []moved, err error) {
	p, err := newPipe()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	n, err := unix.Splice(s.fd, nil, p.write, nil, min(len(buf), want), 0)
	return one(int(n), err)
}

// sendZeroCopy lends pages to the network and waits until it gives them back.
func sendZeroCopy(_ *puppet, s *socket, buf []byte, to unix.Sockaddr) (_ []moved, err error) {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
		return nil, err
	}
	pages, err := pageBuffer(buf)
	if err != nil {
		return nil, err
	}
	n, err := unix.SendmsgN(s.fd, pages, nil, to, unix.MSG_ZEROCOPY|unix.MSG_NOSIGNAL)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(pages))
	}
	if err := waitFor(s.fd, unix.POLLERR); err != nil {
		return nil, err
	}
	if _, err := errorQueue(s.fd, nil); err != nil {
		return nil, err
	}
	return []moved{{bytes: n}}, unix.Munmap(pages)
}

// errorQueue takes one message of the error queue.
func errorQueue(fd int, buf []byte) (int, error) {
	return retry(func() (int, error) {
		n, _, _, _, err := unix.Recvmsg(fd, buf, make([]byte, 512), unix.MSG_ERRQUEUE)
		return n, err
	})
}

// zeroCopyReceive is struct tcp_zerocopy_receive.
type zeroCopyReceive struct {
	address       uint64
	length        uint32
	skipHint      uint32
	queued        uint32
	err           int32
	copyAddress   uint64
	copyLength    int32
	flags         uint32
	control       uint64
	controlLength uint64
	messageFlags  uint32
	_             uint32
}

// receiveZeroCopy maps what lies in whole pages, and lets the kernel copy a rest smaller than a page.
func receiveZeroCopy(p *puppet, s *socket, _ []byte, want int) ([]moved, error) {
	return p.zeroCopy(s, want, 4095)
}

// receiveCopied has a buffer for all of it, so that the kernel maps nothing.
func receiveCopied(p *puppet, s *socket, _ []byte, want int) ([]moved, error) {
	return p.zeroCopy(s, want, want)
}

func (p *puppet) zeroCopy(s *socket, want, room int) (_ []moved, err error) {
	if err := waitFor(s.fd, unix.POLLIN); err != nil {
		return nil, err
	}
	window, err := unix.Mmap(s.fd, 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(window)) }()
	rest := make([]byte, room)
	z := zeroCopyReceive{
		address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(window)))), length: uint32(min(len(window), want)) &^ 4095,
		copyAddress: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(rest)))), copyLength: int32(room),
	}
	size := uint32(unsafe.Sizeof(z))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.IPPROTO_TCP, unix.TCP_ZEROCOPY_RECEIVE,
		uintptr(unsafe.Pointer(&z)), uintptr(unsafe.Pointer(&size)), 0)
	keep(rest)
	if errno != 0 {
		return nil, errno
	}
	p.mapped += uint64(z.length)
	if n := int(z.length) + int(z.copyLength); n > 0 {
		return []moved{{bytes: n}}, nil
	}
	// What can be neither mapped nor copied has to be received, which the hint says.
	return one(recvCall(s.fd, make([]byte, max(z.skipHint, 1)), 0))
}
