package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// half is what one end of a transfer says.
type half struct {
	bytes int
	used  time.Duration // of the processor
	err   error
}

// bulk has a thread send as fast as another one takes it.
func bulk(length time.Duration) (speed, error) {
	from, to, err := tcpPair()
	if err != nil {
		return speed{}, err
	}
	defer unix.Close(to)
	taken := make(chan half, 1)
	go func() { taken <- move(to, func(buffer []byte) (int, error) { return unix.Read(to, buffer) }) }()
	begin := time.Now()
	sent := move(from, func(buffer []byte) (int, error) {
		if time.Since(begin) >= length {
			return 0, nil
		}
		return unix.Write(from, buffer)
	})
	closed := unix.Close(from) // ends the other half
	got := <-taken
	elapsed := time.Since(begin)
	if err := errors.Join(sent.err, closed, got.err); err != nil {
		return speed{}, err
	}
	if sent.bytes != got.bytes {
		return speed{}, fmt.Errorf("%d bytes sent, %d received", sent.bytes, got.bytes)
	}
	return speed{float64(got.bytes) / elapsed.Seconds(), float64(got.bytes) / (sent.used + got.used).Seconds()}, nil
}

// move calls until nothing moves any more, in a thread of its own.
func move(fd int, call func([]byte) (int, error)) half {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buffer := make([]byte, 128<<10)
	used := threadTime()
	var h half
	for {
		n, err := call(buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			h.err = fmt.Errorf("move bytes by descriptor %d: %w", fd, err)
		}
		if n <= 0 {
			h.used = threadTime() - used
			return h
		}
		h.bytes += n
	}
}

// tcpPair gives the two ends of a connection over loopback.
func tcpPair() (from, to int, err error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, 0, fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return 0, 0, fmt.Errorf("listen: %w", err)
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the address: %w", err)
	}
	if from, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Connect(from, name); err != nil {
		return 0, 0, errors.Join(fmt.Errorf("connect: %w", err), unix.Close(from))
	}
	if to, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
		return 0, 0, errors.Join(fmt.Errorf("accept: %w", err), unix.Close(from))
	}
	return from, to, nil
}
