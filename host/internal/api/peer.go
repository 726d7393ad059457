package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// person is who is at the other end of a connection, as the kernel knew them when they connected.
type person struct {
	credentials.CommonAuthInfo
	uid    uint32
	groups []uint32 // the primary one first
}

// AuthType names the way in which a person was found out.
func (*person) AuthType() string { return "peercred" }

// askKernel finds out who connected.
func askKernel(conn net.Conn) (*person, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("ask who connected: %T is no unix socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who connected: %w", err)
	}
	var who *person
	var asked error
	err = raw.Control(func(fd uintptr) { who, asked = credentialsOf(int(fd)) })
	if err = errors.Join(err, asked); err != nil {
		return nil, fmt.Errorf("ask who connected: %w", err)
	}
	return who, nil
}

func credentialsOf(fd int) (*person, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, err
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return nil, err
	}
	return &person{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		uid:            cred.Uid,
		groups:         append([]uint32{cred.Gid}, groups...),
	}, nil
}

// peerGroups reads SO_PEERGROUPS, for which x/sys has no function. A process has at most 65536 groups (NGROUPS_MAX).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size/4) > len(groups):
			groups = make([]uint32, size/4)
		default:
			return nil, fmt.Errorf("read SO_PEERGROUPS: %w", errno)
		}
	}
}

func (p *person) in(group uint32) bool { return slices.Contains(p.groups, group) }

// personOf gives who a call comes from.
func personOf(ctx context.Context) (*person, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	who, ok := p.AuthInfo.(*person)
	return who, ok
}

// kernelCredentials tells gRPC who a connection of a [listener] belongs to. The socket itself is the transport: it does not
// leave the machine.
type kernelCredentials struct{}

// ServerHandshake reports what the listener found out.
func (kernelCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*connection)
	if !ok {
		return nil, nil, fmt.Errorf("shake hands: %T was not accepted by us", conn)
	}
	return c, c.who, nil
}

// ClientHandshake refuses a listener that is neither root nor the caller: it would be somebody else's fake.
func (kernelCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	who, err := askKernel(conn)
	if err != nil {
		return nil, nil, err
	}
	if who.uid != 0 && who.uid != uint32(unix.Geteuid()) {
		return nil, nil, fmt.Errorf("the socket is served by uid %d, not by root", who.uid)
	}
	return conn, who, nil
}

// Info names the protocol.
func (kernelCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

// Clone gives another one; there is nothing to share.
func (kernelCredentials) Clone() credentials.TransportCredentials { return kernelCredentials{} }

// OverrideServerName does nothing: nobody has a name.
func (kernelCredentials) OverrideServerName(string) error { return nil }
