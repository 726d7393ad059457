package launch

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// data is struct seccomp_data with its words in the order in which the virtual machine reads them.
func data(arch, number uint32, arguments ...uint32) []byte {
	raw := make([]byte, 64)
	binary.BigEndian.PutUint32(raw[dataNumber:], number)
	binary.BigEndian.PutUint32(raw[dataArch:], arch)
	for i, a := range arguments {
		binary.BigEndian.PutUint32(raw[dataArgs+8*i:], a)
	}
	return raw
}

func TestFilterOfSystemCalls(t *testing.T) {
	t.Parallel()
	need.Have(t, "an architecture with a list of system calls", auditArch != 0)
	machine, err := bpf.NewVM(filter())
	if err != nil {
		t.Fatal(err)
	}
	const arch = auditArch
	for name, c := range map[string]struct {
		raw  []byte
		want bpfAnswer
	}{
		"read":                {data(arch, unix.SYS_READ), allow},
		"execveat":            {data(arch, unix.SYS_EXECVEAT), allow},
		"a thread":            {data(arch, unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_THREAD|unix.CLONE_SIGHAND), allow},
		"a child":             {data(arch, unix.SYS_CLONE, unix.CLONE_VFORK|unix.CLONE_VM|uint32(unix.SIGCHLD)), allow},
		"a user namespace":    {data(arch, unix.SYS_CLONE, unix.CLONE_NEWUSER|uint32(unix.SIGCHLD)), refuse},
		"a network namespace": {data(arch, unix.SYS_CLONE, unix.CLONE_NEWNET), refuse},
		"clone3":              {data(arch, unix.SYS_CLONE3), unknown},
		"the first refused":   {data(arch, refusedCalls()[0]), refuse},
		"the last refused":    {data(arch, refusedCalls()[len(refusedCalls())-1]), refuse},
		"unix socket":         {data(arch, unix.SYS_SOCKET, unix.AF_UNIX), allow},
		"IPv4 socket":         {data(arch, unix.SYS_SOCKET, unix.AF_INET), allow},
		"IPv6 socket":         {data(arch, unix.SYS_SOCKET, unix.AF_INET6), allow},
		"netlink socket":      {data(arch, unix.SYS_SOCKET, unix.AF_NETLINK), allow},
		"packet socket":       {data(arch, unix.SYS_SOCKET, unix.AF_PACKET), family},
		"vsock":               {data(arch, unix.SYS_SOCKET, unix.AF_VSOCK), family},
		"TCGETS":              {data(arch, unix.SYS_IOCTL, 0, unix.TCGETS), allow},
		"TIOCSTI":             {data(arch, unix.SYS_IOCTL, 0, unix.TIOCSTI), refuse},
		"TIOCLINUX":           {data(arch, unix.SYS_IOCTL, 0, tiocLinux), refuse},
		"another machine":     {data(arch+1, unix.SYS_READ), kill},
		"x32":                 {data(arch, foreignCalls|1), unknown},
	} {
		got, err := machine.Run(c.raw)
		if err != nil || uint32(got) != uint32(c.want) {
			t.Errorf("%s: %#x, %v; want %#x", name, uint32(got), err, uint32(c.want))
		}
	}
	for _, call := range refusedCalls() {
		if got, err := machine.Run(data(arch, call)); err != nil || uint32(got) != uint32(refuse) {
			t.Errorf("call %d: %#x, %v", call, uint32(got), err)
		}
	}
}
