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

// How much is done at a time, and how long it may take.
const (
	maxQueries = 8
	maxWatches = 8 // of all who share a service; the live feed has a bound of its own besides
	maxKeeping = 2 // exports, imports and the like
	queryTime  = 2 * time.Minute
	actTime    = 30 * time.Second // for what acts on a plugin, or asks one for locations
)

// service is the contract's Host service, for people or for one plugin.
type service struct {
	wire.UnimplementedHostServer
	backend Backend
	asker   asker
	queries slots
	watches slots
	keeping slots
}

func newService(b Backend, a asker) *service {
	return &service{
		backend: b, asker: a,
		queries: make(slots, maxQueries), watches: make(slots, maxWatches), keeping: make(slots, maxKeeping),
	}
}

// slots bound how much is under way.
type slots chan struct{}

// take gives the function that ends what is begun, or an error in words.
func (s slots) take(what string) (end func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	default:
		return nil, status.Errorf(codes.ResourceExhausted, "%d %s already: try again later", cap(s), what)
	}
}

// need refuses who has no right.
func (s *service) need(ctx context.Context, r right, what string) error {
	if s.asker.rights(ctx)&r == 0 {
		return s.asker.refusal(ctx, what)
	}
	return nil
}

// Status answers everybody; strangers get no names.
func (s *service) Status(ctx context.Context, _ *wire.StatusRequest) (*wire.StatusResponse, error) {
	full := s.backend.Status()
	if s.asker.rights(ctx)&mayStatus != 0 {
		return full, nil
	}
	public := &wire.StatusResponse{
		Pid: full.GetPid(), Version: full.GetVersion(), Started: full.GetStarted(),
		Degraded: full.GetDegraded(), Counters: full.GetCounters(),
	}
	if len(full.GetMessages()) > 0 {
		public.Messages = []string{"what is wrong is told to " + s.asker.trusted()}
	}
	return public, nil
}

// Plugins answers those who are trusted.
func (s *service) Plugins(ctx context.Context, _ *wire.PluginsRequest) (*wire.PluginsResponse, error) {
	if err := s.need(ctx, mayPlugins, "plugins are shown"); err != nil {
		return nil, err
	}
	return &wire.PluginsResponse{Plugins: s.backend.Plugins()}, nil
}

// Query answers those who are trusted, a few at a time.
func (s *service) Query(q *wire.StoreQuery, stream grpc.ServerStreamingServer[wire.QueryPage]) error {
	if err := s.need(stream.Context(), mayQuery, "history is shown"); err != nil {
		return err
	}
	end, err := s.queries.take("queries are being answered")
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(stream.Context(), queryTime)
	defer cancel()
	question := q.GetQuery()
	if question == nil {
		question = &wire.Query{}
	}
	err = s.backend.Query(ctx, q.GetStore(), question, func(page *wire.QueryPage) error {
		if size := proto.Size(page); size > wire.MaxPageBytes {
			return status.Errorf(codes.Internal, "the store sent a page of %d bytes, at most %d are allowed", size, wire.MaxPageBytes)
		}
		return stream.Send(page)
	})
	return answerError(err)
}

// Watch is the live feed.
func (s *service) Watch(r *wire.WatchRequest, stream grpc.ServerStreamingServer[wire.WatchPage]) error {
	if err := s.need(stream.Context(), mayWatch, "what is going on is shown"); err != nil {
		return err
	}
	watcher, ok := s.backend.(Watcher)
	if !ok {
		return missing("live feed")
	}
	end, err := s.watches.take("watch")
	if err != nil {
		return err
	}
	defer end()
	return answerError(watcher.Watch(stream.Context(), r, stream.Send))
}

// Control acts on one plugin.
func (s *service) Control(ctx context.Context, r *wire.ControlRequest) (*wire.ControlResponse, error) {
	if err := s.need(ctx, mayControl, "control of plugins is given"); err != nil {
		return nil, err
	}
	controller, ok := s.backend.(Controller)
	if !ok {
		return nil, missing("control of plugins")
	}
	ctx, cancel := context.WithTimeout(ctx, actTime)
	defer cancel()
	text, err := controller.Control(ctx, r)
	if err != nil {
		return nil, answerError(err)
	}
	return &wire.ControlResponse{Text: printable(text)}, nil
}

// PluginLog shows what a plugin said.
func (s *service) PluginLog(ctx context.Context, r *wire.PluginLogRequest) (*wire.PluginLogResponse, error) {
	if err := s.need(ctx, mayControl, "what plugins say is shown"); err != nil {
		return nil, err
	}
	controller, ok := s.backend.(Controller)
	if !ok {
		return nil, missing("logs of plugins")
	}
	answer, err := controller.PluginLog(ctx, r.GetPlugin())
	return answer, answerError(err)
}

// OpenExecutable streams a file to a plugin that is granted it.
func (s *service) OpenExecutable(r *wire.OpenExecutableRequest, stream grpc.ServerStreamingServer[wire.Piece]) error {
	if err := s.need(stream.Context(), mayExecutables, "what is asked about is shown"); err != nil {
		return err
	}
	opener, ok := s.backend.(Opener)
	if !ok {
		return missing("executables by their hash")
	}
	end, err := s.keeping.take("files are being read")
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(stream.Context(), queryTime)
	defer cancel()
	return answerError(opener.OpenExecutable(ctx, r.GetSha256(), func(data []byte) error {
		return stream.Send(&wire.Piece{Data: data})
	}))
}

// missing says that this daemon cannot do something.
func missing(what string) error {
	return status.Errorf(codes.Unimplemented, "this daemon has no %s", what)
}
