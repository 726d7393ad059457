package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// tunnel makes a TUN device, which is there as long as this process holds it.
func (p *puppet) tunnel(c script.Command) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq(c.Net)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	p.tun = fd
	return nil
}

// inject makes packets arrive on the TUN device, as if from a network.
func (p *puppet) inject(c script.Command, r *script.Reply) error {
	from, err := netip.ParseAddrPort(c.Address)
	if err != nil {
		return fmt.Errorf("inject: %w", err)
	}
	for _, peer := range c.Peers {
		to, err := netip.ParseAddrPort(peer)
		if err != nil {
			return fmt.Errorf("inject: %w", err)
		}
		for range times(c) {
			n, err := unix.Write(p.tun, udpPacket(from, to, c.Bytes))
			if err != nil {
				return err
			}
			r.Bytes, r.Calls = r.Bytes+uint64(n), r.Calls+1
		}
	}
	return nil
}

// tap writes frames on a macvtap device.
func tap(c script.Command, r *script.Reply) error {
	fd, err := openTap()
	if err != nil {
		return err
	}
	const offload = 10 // bytes of a header that says nothing here
	frame := make([]byte, offload+c.Bytes)
	copy(frame[offload:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, experimental >> 8, experimental & 0xff})
	for range times(c) {
		n, err := unix.Write(fd, frame)
		if err != nil {
			return err
		}
		r.Bytes, r.Calls = r.Bytes+uint64(n), r.Calls+1
	}
	return unix.Close(fd)
}

// openTap finds the device's number by trying: sysfs shows the devices of another namespace.
func openTap() (int, error) {
	listed, err := os.ReadFile("/proc/devices")
	if err != nil {
		return -1, err
	}
	before, _, found := strings.Cut(string(listed), " macvtap\n")
	major, err := strconv.ParseUint(strings.TrimSpace(before[strings.LastIndex(before, "\n")+1:]), 10, 32)
	if !found || err != nil {
		return -1, unix.ENODEV
	}
	dir, err := os.MkdirTemp("", "tap")
	if err != nil {
		return -1, err
	}
	defer os.RemoveAll(dir)
	node := filepath.Join(dir, "tap")
	for minor := range uint32(16) {
		if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(major), minor))); err != nil {
			return -1, err
		}
		if fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
			return fd, nil
		}
		if err := os.Remove(node); err != nil {
			return -1, err
		}
	}
	return -1, unix.ENODEV
}

// bindXDP makes the smallest AF_XDP socket that can be bound: memory, its two rings and a ring to receive.
func (p *puppet) bindXDP(c script.Command) error {
	const frames, size = 16, 4096
	device, err := net.InterfaceByName(c.Net)
	if err != nil {
		return fmt.Errorf("bind AF_XDP: %w", err)
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	memory, err := pageBuffer(make([]byte, frames*size))
	if err != nil {
		return err
	}
	region := unix.XDPUmemReg{Addr: addressOf(memory), Len: frames * size, Size: size}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&region)), unsafe.Sizeof(region), 0)
	if errno != 0 {
		return errno
	}
	for _, ring := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, ring, frames); err != nil {
			return err
		}
	}
	return unix.Bind(fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(device.Index)})
}
