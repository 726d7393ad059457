package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Caps on what a plugin can make the host hold.
const (
	maxMessage = 8 << 20
	maxHeaders = 64 << 10
)

// dialOptions come after go-plugin's own and win.
func (l *launcher) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithContextDialer(l.dial),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDisableServiceConfig(),
		grpc.WithStreamInterceptor(withoutBroker),
	}
}

// withoutBroker refuses go-plugin's broker stream: what a plugin sends there is kept by its number, without a bound.
func withoutBroker(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if strings.HasPrefix(method, "/plugin.GRPCBroker/") {
		return nil, status.Error(codes.Unimplemented, "the broker is not used")
	}
	return streamer(ctx, desc, cc, method, opts...)
}

// dial connects to the very socket that was checked, by way of its descriptor, and checks who listens.
func (l *launcher) dial(ctx context.Context, _ string) (net.Conn, error) {
	l.mu.Lock()
	address := l.address
	l.mu.Unlock()
	if address == "" {
		return nil, errors.New("dial the plugin: no address yet")
	}
	fd, err := openSocket(address, l.o.uid())
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn, l.o.uid()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// checkPeer makes sure that the listener is the plugin's uid.
func checkPeer(conn net.Conn, uid uint32) error {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("dial the plugin: %T is no unix socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		peer, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return fmt.Errorf("ask who listens: %w", err)
	}
	if peer.Uid != uid {
		return fmt.Errorf("%w: uid %d listens on the socket of uid %d", ErrProtocol, peer.Uid, uid)
	}
	return nil
}
