package api

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Backend is what the daemon can tell. Its methods are called from many goroutines at once; answers belong to the caller.
type Backend interface {
	// Status tells how the daemon does. The names of counters are the host's own words, since everybody may see them.
	Status() *wire.StatusResponse
	Plugins() []*wire.PluginStatus
	// Query hands page the parts of the answer in order; an error of page ends it and is returned. A gRPC status of its
	// error reaches the client.
	Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error
}

// How much is done at a time, and how long it may take.
const (
	maxQueries = 8
	queryTime  = 2 * time.Minute
)

// service is the contract's Host service.
type service struct {
	wire.UnimplementedHostServer
	backend Backend
	access  access
	queries chan struct{} // one element a query under way
}

func newService(b Backend, a access) *service {
	return &service{backend: b, access: a, queries: make(chan struct{}, maxQueries)}
}

// Status answers everybody; strangers get no names.
func (s *service) Status(ctx context.Context, _ *wire.StatusRequest) (*wire.StatusResponse, error) {
	full := s.backend.Status()
	if who, _ := personOf(ctx); s.access.trusts(who) {
		return full, nil
	}
	public := &wire.StatusResponse{
		Pid: full.GetPid(), Version: full.GetVersion(), Started: full.GetStarted(),
		Degraded: full.GetDegraded(), Counters: full.GetCounters(),
	}
	if len(full.GetMessages()) > 0 {
		public.Messages = []string{"what is wrong is told to root, the owner of the configuration and members of group " + Group}
	}
	return public, nil
}

// Plugins answers those who are trusted.
func (s *service) Plugins(ctx context.Context, _ *wire.PluginsRequest) (*wire.PluginsResponse, error) {
	if who, _ := personOf(ctx); !s.access.trusts(who) {
		return nil, refusal("plugins are shown", who)
	}
	return &wire.PluginsResponse{Plugins: s.backend.Plugins()}, nil
}

// Query answers those who are trusted, a few at a time.
func (s *service) Query(q *wire.StoreQuery, stream grpc.ServerStreamingServer[wire.QueryPage]) error {
	if who, _ := personOf(stream.Context()); !s.access.trusts(who) {
		return refusal("history is shown", who)
	}
	select {
	case s.queries <- struct{}{}:
		defer func() { <-s.queries }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d queries are being answered already: try again later", maxQueries)
	}
	ctx, cancel := context.WithTimeout(stream.Context(), queryTime)
	defer cancel()
	question := q.GetQuery()
	if question == nil {
		question = &wire.Query{}
	}
	err := s.backend.Query(ctx, q.GetStore(), question, func(page *wire.QueryPage) error {
		if size := proto.Size(page); size > wire.MaxPageBytes {
			return status.Errorf(codes.Internal, "the store sent a page of %d bytes, at most %d are allowed", size, wire.MaxPageBytes)
		}
		return stream.Send(page)
	})
	return answerError(err)
}
