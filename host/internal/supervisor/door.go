package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// door is the socket on which the host listens for a plugin. The plugin inherits it and lets in who comes; the host only
// looks whether somebody stands before it.
type door struct {
	socket *os.File
	port   uint16
}

func openDoor(ctx context.Context, address string) (*door, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // a plugin's own file descriptor is plain TCP in any language
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	defer func() { _ = l.Close() }()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listen for the plugin: %T is no TCP listener", l)
	}
	socket, err := tcp.File() // unlike the listener it can be waited for without accepting
	if err != nil {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	where, _ := netip.ParseAddrPort(l.Addr().String()) // TCP's always is one
	return &door{socket: socket, port: where.Port()}, nil
}

// copy is the socket for one incarnation to inherit; the caller closes it.
func (d *door) copy() (file *os.File, err error) {
	raw, err := d.socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("hand over the listener: %w", err)
	}
	fd := -1
	seen := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(seen, err); err != nil {
		return nil, fmt.Errorf("hand over the listener: %w", err)
	}
	return os.NewFile(uintptr(fd), d.socket.Name()), nil
}

// awaitVisitor returns nil when somebody wants to be let in, and an error when ctx is done.
func (d *door) awaitVisitor(ctx context.Context) error {
	if err := d.socket.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	called := make(chan struct{})
	off := context.AfterFunc(ctx, func() {
		defer close(called)
		_ = d.socket.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !off() {
			<-called // it must not end the next wait
		}
	}()
	raw, err := d.socket.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, 0)
		return n > 0 && err == nil
	})
}

// busy says whether anybody is connected.
func (d *door) busy() bool {
	return connected("/proc/net/tcp", d.port) || connected("/proc/net/tcp6", d.port)
}

// connected looks for an established connection of a local port in one of the kernel's tables.
func connected(table string, port uint16) bool {
	file, err := os.Open(table)
	if err != nil {
		return false // no IPv6
	}
	defer func() { _ = file.Close() }()
	const established = "01"
	local := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && strings.HasSuffix(fields[1], local) && fields[3] == established {
			return true
		}
	}
	return false
}

func (d *door) close() { _ = d.socket.Close() } // nothing was written
