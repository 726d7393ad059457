package sdk

import (
	"errors"
	"net"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenerIsTheHostsSocket(t *testing.T) {
	if _, err := Listener(); !errors.Is(err, ErrNoListener) {
		t.Fatalf("without one: %v", err)
	}
	hosts, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hosts.Close() }()
	tcp, ok := hosts.(*net.TCPListener)
	if !ok {
		t.Fatalf("%T", hosts)
	}
	file, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := unix.Dup(int(file.Fd()))
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv(ListenerVariable, strconv.Itoa(inherited))
	l, err := Listener()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("tcp4", hosts.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	visitor, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = visitor.Close() }()
	if visitor.RemoteAddr().String() != conn.LocalAddr().String() {
		t.Errorf("it accepted %v, not %v", visitor.RemoteAddr(), conn.LocalAddr())
	}
}

func TestListenerRefusesNonsense(t *testing.T) {
	for _, number := range []string{"", "x", "-1", "99999999999", "2147483647"} {
		t.Setenv(ListenerVariable, number)
		if _, err := Listener(); err == nil || errors.Is(err, ErrNoListener) {
			t.Errorf("%q: %v", number, err)
		}
	}
}
