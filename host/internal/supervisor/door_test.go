package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// freeAddress is one of this machine where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// greeted connects, and wants to hear what the test plugin says to everybody.
func greeted(t *testing.T, address string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(patience(t)))
	if heard, err := io.ReadAll(conn); err != nil || string(heard) != "hello\n" {
		t.Errorf("on its listener it says %q, %v", heard, err)
	}
}

func TestInterfaceOnDemandStartsForAVisitorAndStopsWhenIdle(t *testing.T) {
	t.Parallel()
	needRoot(t)
	address := freeAddress(t)
	r := run(t, slot(67), Spec{
		Name: pageName, Owner: someone, Listen: address, Kinds: []string{"ui"}, OnDemand: true, IdleAfter: time.Second,
	})
	for range 2 {
		if pid := r.awaitState(StateIdle).GetPid(); pid != 0 {
			t.Errorf("it is idle as process %d", pid)
		}
		greeted(t, address)
		r.awaitState(StateRunning)
	}
	if n := r.Status()[0].GetRestarts(); n != 0 {
		t.Errorf("%d restarts are counted as failures", n)
	}
}

func TestDoorThatCannotBeOpenedIsAFailedStart(t *testing.T) {
	t.Parallel()
	needRoot(t)
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	r := run(t, slot(68), Spec{Name: pageName, Owner: someone, Listen: taken.Addr().String(), Kinds: []string{"ui"}, OnDemand: true})
	r.await("an error", func() bool { return r.Status()[0].GetLastError() != "" && r.Status()[0].GetRestarts() > 0 })
}

// letIn accepts a visitor as a plugin would, and lets it go.
func letIn(t *testing.T, d *door) {
	t.Helper()
	file, err := d.copy()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestDoorTellsOfVisitors(t *testing.T) {
	t.Parallel()
	d, err := openDoor(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.awaitVisitor(ctx); !errors.Is(err, os.ErrDeadlineExceeded) || d.busy() {
		t.Errorf("without a visitor: %v, busy %v", err, d.busy())
	}
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", d.port))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.awaitVisitor(t.Context()); err != nil || !d.busy() {
		t.Errorf("with a visitor: %v, busy %v", err, d.busy())
	}
	letIn(t, d)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience(t)); d.busy(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is busy after the visitor left")
		}
	}
}
