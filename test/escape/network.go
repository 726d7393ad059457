package main

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// tryNetwork makes the attempts of a plugin that was granted one peer. "allowed" must be the only one to succeed.
func tryNetwork(t targets) map[string]string {
	return perform(map[string]func() error{
		"allowed":         func() error { return connect("tcp", t.Allowed) },
		"connect TCP":     func() error { return connect("tcp", t.TCP) },
		"mapped address":  func() error { return connectMapped(t.TCP) },
		"send UDP":        func() error { return sendUDP(t.UDP) },
		"send to":         func() error { return sendTo(t.UDP) },
		"abstract socket": func() error { return connect("unix", "@"+t.Abstract) },
		"bind a port":     bindPort,
		"ping socket":     func() error { return open(unix.SOCK_DGRAM, unix.IPPROTO_ICMP) },
		"SCTP":            func() error { return open(unix.SOCK_STREAM, unix.IPPROTO_SCTP) },
		"other names": func() error {
			_, err := net.DefaultResolver.LookupHost(context.Background(), "escaped.example.org")
			return err
		},
		"be connected to": func() error { return beConnectedTo(t.Directory) },
	})
}

// connectMapped reaches an IPv4 address through a socket of IPv6.
func connectMapped(address string) error {
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	sa := &unix.SockaddrInet6{Port: to.Port}
	copy(sa.Addr[:], to.IP.To16())
	return unix.Connect(fd, sa)
}

// sendTo sends without connecting.
func sendTo(address string) error {
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.WriteTo([]byte("escaped"), to)
	return err
}

func bindPort() error {
	l, err := net.Listen("tcp4", "127.0.0.1:47013")
	if err != nil {
		return err
	}
	return l.Close()
}

func open(kind, protocol int) error {
	fd, err := unix.Socket(unix.AF_INET, kind, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// beConnectedTo listens without binding, which no bind hook sees, and waits for what comes. The test connects to the port
// that it finds in the plugin's directory.
func beConnectedTo(directory string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	port := address.(*unix.SockaddrInet4).Port
	if err := report(directory, map[string]string{"port": fmt.Sprint(port)}); err != nil {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 3000); n == 0 || err != nil {
		return fmt.Errorf("nobody came: %w", unix.ETIMEDOUT)
	}
	return nil
}
