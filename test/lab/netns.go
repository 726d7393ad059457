package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Space is a network namespace. It has no name: it ends with its file and its last process, so that nothing is left
// behind however the lab ends.
type Space struct {
	Inode uint64
	V4    netip.Addr // of the veth end
	V6    netip.Addr
	file  *os.File // nil: the namespace the lab itself runs in
}

// Pair is two namespaces joined by a veth pair. Blackhole4 is an address on it at which nobody answers, not even "no".
type Pair struct {
	A, B       *Space
	Blackhole4 netip.Addr
}

// NewPair makes the namespaces, with loopback up and addresses that can be used at once. The caller closes it.
func NewPair() (*Pair, error) {
	p := &Pair{Blackhole4: netip.MustParseAddr("10.77.0.99")}
	var err error
	if p.A, err = newSpace("10.77.0.1", "fd77::1"); err != nil {
		return nil, err
	}
	if p.B, err = newSpace("10.77.0.2", "fd77::2"); err != nil {
		return nil, errors.Join(err, p.A.Close())
	}
	if err := p.join(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close lets go of both namespaces.
func (p *Pair) Close() error { return errors.Join(p.A.Close(), p.B.Close()) }

// Close lets go of the namespace.
func (s *Space) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func newSpace(v4, v6 string) (*Space, error) {
	s := &Space{V4: netip.MustParseAddr(v4), V6: netip.MustParseAddr(v6)}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("open network namespace: %w", err)
		}
		s.file = file
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return nil, err
	}
	s.Inode, err = inode(s.file)
	return s, err
}

// hostSpace is the namespace that the lab runs in; only its loopback is used.
func hostSpace() (*Space, error) {
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	defer f.Close()
	s := &Space{}
	s.Inode, err = inode(f)
	return s, err
}

func inode(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("stat network namespace: %w", err)
	}
	return st.Ino, nil
}

func (p *Pair) join() error {
	err := p.A.Do(func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "lab0"}, PeerName: "lab0", PeerNamespace: netlink.NsFd(int(p.B.file.Fd())),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make veth pair: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, step := range []func(*Space) error{
		func(s *Space) error { return s.setAddresses(p.Blackhole4) },
		func(*Space) error { return waitForCarrier() },
	} {
		for _, s := range []*Space{p.A, p.B} {
			if err := s.Do(func() error { return step(s) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitForCarrier waits until the link takes datagrams: before that, it drops them.
func waitForCarrier() error {
	for end := time.Now().Add(Deadline()); ; time.Sleep(5 * time.Millisecond) {
		link, err := netlink.LinkByName("lab0")
		if err != nil {
			return fmt.Errorf("find lab0: %w", err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("lab0: still %v after %v", link.Attrs().OperState, Deadline())
		}
	}
}

// setAddresses leaves duplicate address detection out (it would keep IPv6 unusable for a second) and gives the black
// hole a hardware address that nobody has.
func (s *Space) setAddresses(blackhole netip.Addr) error {
	link, err := netlink.LinkByName("lab0")
	if err != nil {
		return fmt.Errorf("find lab0: %w", err)
	}
	for prefix, ip := range map[int]netip.Addr{24: s.V4, 64: s.V6} {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix, ip.BitLen())}}
		if ip.Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("add address %s: %w", ip, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set lab0 up: %w", err)
	}
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: blackhole.AsSlice(),
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x99},
	})
}

// Do runs f on a thread inside the namespace; what f starts is born there.
func (s *Space) Do(f func() error) error {
	if s.file == nil {
		return f()
	}
	return onThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that may change its network namespace. The thread goes back home instead of ending: a
// daemon started on it earlier has PDEATHSIG, which means the thread.
func onThread(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("go back to own network namespace: %w", back)) // the thread stays locked
	}
	runtime.UnlockOSThread()
	return err
}
