package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// sendCall is send(2): x/sys offers only calls that hide the count.
func sendCall(fd int, buf []byte) (int, error) {
	return retry(func() (int, error) {
		n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), unix.MSG_NOSIGNAL, 0, 0)
		return result(n, errno)
	})
}

// recvCall is recv(2): no room for an address is given, so no address hook of the kernel runs.
func recvCall(fd int, buf []byte, flags int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), uintptr(flags), 0, 0)
	return result(n, errno)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// threads sends from so many threads of the system at once, on one socket.
func (p *puppet) threads(c script.Command, s *socket, r *script.Reply) error {
	errs := make([]error, c.Threads)
	replies := make([]script.Reply, c.Threads)
	var all sync.WaitGroup
	for i := range c.Threads {
		all.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			errs[i] = p.send(c, s, &replies[i])
		})
	}
	all.Wait()
	for _, one := range replies {
		r.Bytes, r.Calls = r.Bytes+one.Bytes, r.Calls+one.Calls
	}
	return errors.Join(errs...)
}

// disguise changes what /proc shows of this process: its name, and its arguments in place.
func disguise(name string) error {
	for _, argument := range os.Args {
		memory := unsafe.Slice(unsafe.StringData(argument), len(argument)) // the kernel's own copy, on the stack
		for i := range memory {
			memory[i] = 'x'
		}
	}
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		return fmt.Errorf("change name: %w", err)
	}
	return nil
}

// fork makes a real fork(2): child and parent send over the same socket at the same time. The child runs on a copy of
// one thread, without Go's scheduler, so it does nothing but raw system calls.
func (p *puppet) fork(c script.Command, s *socket, r *script.Reply) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	work := forked{
		fd: uintptr(s.fd), report: uintptr(pipe[1]), times: times(c),
		buf: make([]byte, c.Bytes), sums: &[2]uint64{},
	}
	pid, errno := work.start()
	if e := unix.Close(pipe[1]); e != nil {
		return e
	}
	if errno != 0 {
		return errno
	}
	sendErr := p.send(c, s, r)
	report := os.NewFile(uintptr(pipe[0]), "report")
	var sums [2]uint64
	readErr := binary.Read(io.LimitReader(report, 16), binary.NativeEndian, &sums)
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		return fmt.Errorf("wait for child: %w", err)
	}
	r.Child = p.childAccount(pid, s, sums)
	return errors.Join(sendErr, readErr)
}

func (p *puppet) childAccount(pid int, s *socket, sums [2]uint64) *script.Account {
	child := &puppet{self: p.self, ledger: newLedger()}
	child.self.Pid, child.self.Parent = pid, p.self.Pid
	child.ledger.book(s, s.remote, func(f *script.Flow) { f.Sent, f.Sends = sums[0], sums[1] })
	return child.account()
}

// forked is what the child needs, at addresses that stay where they are.
type forked struct {
	fd, report uintptr
	times      int
	buf        []byte
	sums       *[2]uint64 // bytes, calls
}

// start forks. In the child it does not return.
//
//go:norace
//go:noinline
func (f *forked) start() (int, unix.Errno) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		f.child()
	}
	return int(pid), errno
}

// child must not grow its stack or allocate: the locks of the runtime may be held by threads that do not exist here.
//
//go:nosplit
//go:norace
func (f *forked) child() {
	for range f.times {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, f.fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(f.buf))), uintptr(len(f.buf)), unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			f.sums[0] += uint64(n)
			f.sums[1]++
		}
	}
	syscall.RawSyscall(unix.SYS_WRITE, f.report, uintptr(unsafe.Pointer(f.sums)), 16)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// exec replaces this program; the process, its pipes and its sockets stay.
func (p *puppet) exec(c script.Command) error {
	return fmt.Errorf("exec %s: %w", c.Path, unix.Exec(c.Path, c.Args, p.heritage()))
}

// spawn starts a child that speaks on our pipes and has our sockets. We wait for its end, or with Leave end first.
func (p *puppet) spawn(c script.Command) error {
	files := []uintptr{0, 1, 2}
	for fd := 3; fd <= p.highest(); fd++ { // the same numbers in the child
		files = append(files, ^uintptr(0))
	}
	for _, s := range p.sockets {
		files[s.fd] = uintptr(s.fd)
	}
	pid, err := syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{Env: p.heritage(), Files: files})
	if err != nil {
		return fmt.Errorf("spawn %s: %w", c.Path, err)
	}
	if c.Leave {
		p.gone = true
		return nil
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		return fmt.Errorf("wait for child: %w", err)
	}
	return nil
}

func (p *puppet) highest() int {
	highest := 2
	for _, s := range p.sockets {
		highest = max(highest, s.fd)
	}
	return highest
}
