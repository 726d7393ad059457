package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// mailbox binds the unix socket at which Take waits.
func (p *puppet) openMailbox(c script.Command) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.mailbox = fd
	return unix.Bind(fd, &unix.SockaddrUnix{Name: c.Path})
}

func (p *puppet) give(c script.Command, s *socket) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendmsg(fd, []byte{1}, unix.UnixRights(s.fd), &unix.SockaddrUnix{Name: c.Path}, 0)
}

func (p *puppet) take(c script.Command) error {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(p.mailbox, make([]byte, 1), control, 0)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("take: %d control messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	return p.own(c, fds[0])
}

// grab copies another process's descriptor without its help.
func (p *puppet) grab(c script.Command) error {
	process, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, c.FD, 0)
	if err != nil {
		return err
	}
	return p.own(c, fd)
}

func (p *puppet) own(c script.Command, fd int) error {
	s, err := adopt(fd, c.Net)
	if err == nil {
		p.sockets[c.As] = s
	}
	return err
}

// chatter uses sockets that reach no network: unix, netlink and the kernel's cipher interface.
func (p *puppet) chatter(c script.Command) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	buf := make([]byte, c.Bytes)
	for range times(c) {
		if _, err := sendCall(pair[0], buf); err != nil {
			return err
		}
		if _, err := recvCall(pair[1], buf, unix.MSG_WAITALL); err != nil {
			return err
		}
		if err := askForLinks(); err != nil {
			return err
		}
	}
	return nil
}

// askForLinks sends a request to rtnetlink and reads the beginning of its answer.
func askForLinks() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := make([]byte, 32) // nlmsghdr and ifinfomsg
	request[0], request[4] = 32, unix.RTM_GETLINK
	request[6], request[7] = unix.NLM_F_REQUEST&0xff, unix.NLM_F_DUMP>>8
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	_, err = recvCall(fd, make([]byte, 8192), 0)
	return err
}
