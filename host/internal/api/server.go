package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Options say where to listen and whom to trust.
type Options struct {
	RunDir string       // absolute; made if missing
	Owner  uint32       // uid that the configuration belongs to
	Groups string       // group(5) file; "": /etc/group
	Group  string       // whose members get every answer
	Log    *slog.Logger // for mistakes of ours; nil: nowhere
}

// Bounds on a client.
const (
	maxRequest  = 1 << 20
	maxHeaders  = 16 << 10
	maxStreams  = 16 // calls at a time over one connection
	handshake   = 5 * time.Second
	idle        = 5 * time.Minute // a connection without calls is closed then
	aliveProbe  = time.Minute
	aliveAnswer = 20 * time.Second
)

// Server answers on the socket until it is closed.
type Server struct {
	grpc  *grpc.Server
	asker asker
	done  chan struct{} // closed when nothing is accepted any more
	err   error         // of accepting; valid once done is closed
}

// Listen makes the socket and answers from then on. The caller closes the server.
//
// The caller holds the run directory's lock: a socket that lies there already was left by a daemon that is gone, and is
// removed.
func Listen(o Options, b Backend) (*Server, error) {
	if o.Groups == "" {
		o.Groups = "/etc/group"
	}
	socket, err := listen(o.RunDir)
	if err != nil {
		return nil, err
	}
	s := newServer(b, o.Log, newAccess(o.Owner, o.Groups, o.Group))
	s.serve(newListener(socket))
	return s, nil
}

// ServePlugin answers one plugin on a socket of its own, l, which is closed in the end. grants is asked with every call.
// The caller closes the server when the plugin has ended.
//
// Whoever can connect is taken for the plugin: the socket belongs to it alone, and others than its owner are turned away.
func ServePlugin(l net.Listener, name string, grants func() Grants, b Backend, log *slog.Logger) (*Server, error) {
	only, err := socketOwner(l)
	if err != nil {
		return nil, fmt.Errorf("serve plugin %s: %w", name, err)
	}
	own := newListener(l)
	own.only = &only
	s := newServer(b, log, pluginAsker{name: name, grants: grants})
	s.serve(own)
	return s, nil
}

// newServer makes a server with every service.
func newServer(b Backend, log *slog.Logger, who asker) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := guard{log: log}
	s := &Server{asker: who, done: make(chan struct{}), grpc: grpc.NewServer(
		grpc.Creds(kernelCredentials{}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxSendMsgSize(2*wire.MaxPageBytes),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idle, Time: aliveProbe, Timeout: aliveAnswer}),
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	)}
	host := newService(b, who)
	wire.RegisterHostServer(s.grpc, host)
	wire.RegisterKeeperServer(s.grpc, keeper{service: host})
	wire.RegisterLocatorServer(s.grpc, locator{service: host})
	return s
}

func (s *Server) serve(l net.Listener) {
	go func() {
		defer close(s.done)
		s.err = s.grpc.Serve(l)
	}()
}

// SetGroup names another group whose members get every answer, from the next call on.
func (s *Server) SetGroup(name string) {
	if a, ok := s.asker.(*access); ok {
		a.name.Store(&name)
	}
}

// listen makes the socket, which everybody may connect to.
func listen(runDir string) (net.Listener, error) {
	if err := MakeRunDir(runDir); err != nil {
		return nil, err
	}
	path, err := socketPath(runDir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	socket, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("open socket to clients: %w", err), socket.Close())
	}
	return socket, nil
}

// Close ends the service: calls under way may finish until ctx is done, and are cut off then. The socket is removed. It
// waits for every goroutine of the server, so that the Backend is not called any more, and is called once.
func (s *Server) Close(ctx context.Context) error {
	cut := context.AfterFunc(ctx, s.grpc.Stop)
	s.grpc.GracefulStop()
	cut()
	<-s.done
	if s.err != nil && !errors.Is(s.err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", SocketName, s.err)
	}
	return nil
}
