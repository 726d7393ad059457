package main

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// storm starts programs as fast as it can. Each connects to the socket that the lab has built into it, sends as many
// bytes as its exit code says, and ends. The peers, which are programs, take turns.
func (p *puppet) storm(c script.Command, r *script.Reply) error {
	var bytes, calls atomic.Uint64
	end := time.Now().Add(time.Duration(c.Millis) * time.Millisecond)
	errs := make(chan error, c.Threads)
	var all sync.WaitGroup
	for range c.Threads {
		all.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				n, err := runOnce(c.Peers[i%len(c.Peers)])
				if err != nil {
					errs <- err
					return
				}
				bytes.Add(uint64(n))
				calls.Add(1)
			}
		})
	}
	all.Wait()
	close(errs)
	r.Bytes, r.Calls = bytes.Load(), calls.Load()
	return <-errs
}

func runOnce(path string) (int, error) {
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", path, err)
	}
	var status unix.WaitStatus
	if _, err := retry(func() (int, error) { return unix.Wait4(pid, &status, 0, nil) }); err != nil {
		return 0, fmt.Errorf("wait for %s: %w", path, err)
	}
	if !status.Exited() {
		return 0, fmt.Errorf("%s: ended by %v", path, status.Signal())
	}
	return status.ExitStatus(), nil
}

// swallow accepts and reads what comes, until halt; all peers are one flow of the account.
func (p *puppet) swallow(s *socket) error {
	tv := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	stop := p.stop
	p.workers.Go(func() {
		buf := make([]byte, 4096)
		for !stopped(stop) {
			if fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC); err == nil {
				p.swallowOne(fd, s, buf)
			}
		}
	})
	return nil
}

func (p *puppet) swallowOne(fd int, s *socket, buf []byte) {
	defer unix.Close(fd)
	total, calls := 0, 0
	for {
		n, err := retry(func() (int, error) { return recvCall(fd, buf, 0) })
		if err != nil || n == 0 {
			break
		}
		total, calls = total+n, calls+1
	}
	p.ledger.book(s, netip.AddrPort{}, func(f *script.Flow) {
		f.Accepts, f.Folded = f.Accepts+1, true
		f.Received, f.Receives = f.Received+uint64(total), f.Receives+uint64(calls)
	})
}
