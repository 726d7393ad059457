package api

import (
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// How many connections may be open: one user's cannot use up the daemon's descriptors, nor shut out root.
const (
	maxConnections       = 256 // of everybody but root
	maxConnectionsOfUser = 32
)

// listener accepts connections of people who are known and within the bounds; others are closed at once.
type listener struct {
	net.Listener
	only *uint32 // nobody else is let in; nil: everybody is

	mu    sync.Mutex
	open  map[uint32]int // uid -> connections
	total int            // of everybody but root
}

func newListener(l net.Listener) *listener { return &listener{Listener: l, open: map[uint32]int{}} }

// Accept waits for the next connection that may stay.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
		who, err := askKernel(conn)
		if err != nil || l.only != nil && who.uid != *l.only || !l.enter(who.uid) {
			_ = conn.Close()
			continue
		}
		return &connection{Conn: conn, who: who, leave: sync.OnceFunc(func() { l.leave(who.uid) })}, nil
	}
}

// socketOwner is whose a unix socket is.
func socketOwner(l net.Listener) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Lstat(l.Addr().String(), &st); err != nil {
		return 0, fmt.Errorf("look at socket %s: %w", l.Addr(), err)
	}
	return st.Uid, nil
}

func (l *listener) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 {
		if l.total >= maxConnections || l.open[uid] >= maxConnectionsOfUser {
			return false
		}
		l.total++
	}
	l.open[uid]++
	return true
}

func (l *listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 {
		l.total--
	}
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// connection is an accepted one; closing it makes room for another.
type connection struct {
	net.Conn
	who   *person
	leave func()
}

// Close closes the connection.
func (c *connection) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
