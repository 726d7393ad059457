package main

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The rings of a puppet.
const (
	ringPlain  = 0
	ringPolled = setupPoll
)

// ring gives the puppet's ring with these flags, made when it is first asked for.
func (p *puppet) ring(flags uint32) (*ring, error) {
	if r, ok := p.rings[flags]; ok {
		return r, nil
	}
	r, err := newRing(flags)
	if err == nil {
		p.rings[flags] = r
	}
	return r, err
}

// on says which file the submission is about.
func (s *socket) on(sub submission) submission {
	sub.fd = int32(s.fd)
	if s.fixed {
		sub.fd, sub.flags = 0, sub.flags|sqeFixedFile
	}
	return sub
}

func ringSend(flags uint32, sqe uint8) sendWay {
	return func(p *puppet, s *socket, buf []byte, to unix.Sockaddr) ([]moved, error) {
		r, err := p.ring(flags)
		if err != nil {
			return nil, err
		}
		if to == nil {
			n, err := r.do(s.on(submission{
				operation: opSend, flags: sqe, address: addressOf(buf), length: uint32(len(buf)), how: unix.MSG_NOSIGNAL,
			}))
			keep(buf)
			return one(n, err)
		}
		message := newMessage(buf, to)
		n, err := r.do(s.on(submission{
			operation: opSendMessage, flags: sqe, address: uint64(uintptr(unsafe.Pointer(&message.header))), length: 1,
		}))
		keep(buf, message)
		return one(n, err)
	}
}

func addressOf(buf []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))) }

// message is a msghdr with what it points to.
type message struct {
	header unix.Msghdr
	vector unix.Iovec
	name   rawAddress
}

func newMessage(buf []byte, to unix.Sockaddr) *message {
	m := &message{name: encode(to)}
	fill(&m.header, &m.vector, buf, &m.name)
	return m
}

// ringSendZeroCopy waits for both completions: the result, and the notification that the pages are free.
func ringSendZeroCopy(p *puppet, s *socket, buf []byte, _ unix.Sockaddr) ([]moved, error) {
	r, err := p.ring(ringPlain)
	if err != nil {
		return nil, err
	}
	pages, err := pageBuffer(buf)
	if err != nil {
		return nil, err
	}
	err = r.submit(s.on(submission{
		operation: opSendZeroCopy, address: addressOf(pages), length: uint32(len(buf)), how: unix.MSG_NOSIGNAL,
	}))
	if err != nil {
		return nil, err
	}
	c, err := r.wait()
	n, err := c.outcome(err)
	if err == nil && c.flags&cqeMore != 0 {
		_, err = r.wait()
	}
	return one(n, errors.Join(err, unix.Munmap(pages)))
}

func ringReceive(flags uint32, sqe uint8) receiveWay {
	return func(p *puppet, s *socket, buf []byte, _ int) ([]moved, error) {
		r, err := p.ring(flags)
		if err != nil {
			return nil, err
		}
		n, err := r.do(s.on(submission{operation: opReceive, flags: sqe, address: addressOf(buf), length: uint32(len(buf))}))
		keep(buf)
		return one(n, err)
	}
}

// ringMultishot makes one submission, which completes whenever something has come, until so many bytes have.
func ringMultishot(_ *puppet, s *socket, _ []byte, want int) (moves []moved, err error) {
	r, err := newRing(ringPlain) // its end also ends the submission
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	const room, count = 4096, 64
	buffers := make([]byte, room*count)
	defer keep(buffers)
	provide := submission{operation: opProvideBuffers, fd: count, address: addressOf(buffers), length: room}
	if _, err := r.do(provide); err != nil {
		return nil, err
	}
	shot := submission{operation: opReceive, flags: sqeSelectBuffer, priority: receiveMultishot}
	if err := r.submit(s.on(shot)); err != nil {
		return nil, err
	}
	for got := 0; got < want; {
		c, err := r.wait()
		n, err := c.outcome(err)
		if err != nil {
			return moves, err
		}
		moves, got = append(moves, moved{bytes: n}), got+n
		if c.flags&cqeMore == 0 {
			break
		}
	}
	return moves, nil
}

// fix leaves the socket to the ring alone: it has no descriptor any more.
func (p *puppet) fix(s *socket) error {
	r, err := p.ring(ringPlain)
	if err != nil {
		return err
	}
	if err := r.hold(s.fd); err != nil {
		return err
	}
	s.fixed = true
	return unix.Close(s.fd)
}
