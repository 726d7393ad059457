package sdk

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// drainTimeout bounds the Drain of a plugin whose host died.
const drainTimeout = 5 * time.Second

// maxWatermarks is how many epochs a ConfigureResponse may name.
const maxWatermarks = 64

// server is the trunk's gRPC service, and what the sink's and the store's share with it.
type server struct {
	wire.UnimplementedPluginServer
	plugin   Plugin
	log      *slog.Logger
	life     *lifecycle
	settings Settings // written once, before life says that the plugin is ready
	draining sync.Mutex
	count    counters

	ending  sync.Mutex
	gaveUp  bool
	stopAll func() // ends the process's service; nil until it is served
}

func newServer(p Plugin, log *slog.Logger) *server {
	return &server{plugin: p, log: log, life: newLifecycle()}
}

// register offers exactly the services that the plugin implements.
func (s *server) register(g *grpc.Server) {
	wire.RegisterPluginServer(g, s)
	if sink, ok := s.plugin.(Sink); ok {
		wire.RegisterSinkServer(g, newSinkServer(s, sink))
	}
	if store, ok := s.plugin.(Store); ok {
		wire.RegisterStoreServer(g, &storeServer{trunk: s, store: store})
	}
	if len(keeperFeatures(s.plugin)) > 0 {
		wire.RegisterKeeperServer(g, &keeperServer{trunk: s})
	}
	if verdicts, ok := s.plugin.(Verdicts); ok {
		wire.RegisterVerdictsServer(g, &verdictsServer{trunk: s, verdicts: verdicts})
	}
	if locator, ok := s.plugin.(Locator); ok {
		wire.RegisterLocatorServer(g, &locatorServer{trunk: s, locator: locator})
	}
}

func (s *server) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeResponse, error) {
	return s.plugin.Describe().encode(s.plugin), nil
}

func (s *server) Configure(ctx context.Context, r *wire.ConfigureRequest) (*wire.ConfigureResponse, error) {
	settings, err := decodeSettings(r)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "configure: "+err.Error())
	}
	response, err := s.configureOnce(ctx, settings)
	if ui, ok := s.plugin.(UI); ok && err == nil {
		err = s.present(ui)
	}
	if err != nil {
		return nil, configureError(err)
	}
	return response, nil
}

// configureOnce tells the lifecycle how Configure ended, also if it panicked.
func (s *server) configureOnce(ctx context.Context, settings Settings) (_ *wire.ConfigureResponse, err error) {
	done, err := s.life.configure()
	if err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished { // a panic passes through here
			err = errors.New("configure: panic")
		}
		done(err)
	}()
	response, err := s.configure(ctx, settings)
	finished = true
	return response, err
}

func (s *server) configure(ctx context.Context, settings Settings) (*wire.ConfigureResponse, error) {
	if err := s.plugin.Configure(ctx, settings); err != nil {
		return nil, err
	}
	s.settings = settings
	response := &wire.ConfigureResponse{}
	sink, ok := s.plugin.(Sink)
	if !ok || settings.ReadOnly { // a plugin that takes no batches has nothing to resume
		return response, nil
	}
	marks, err := sink.Watermarks(ctx)
	if err != nil {
		return nil, err
	}
	for _, mark := range marks[max(0, len(marks)-maxWatermarks):] {
		response.Watermarks = append(response.Watermarks, mark.encode())
	}
	return response, nil
}

func (s *server) Health(ctx context.Context, _ *wire.HealthRequest) (*wire.HealthResponse, error) {
	ctx, leave, err := s.life.enter(ctx, "health", true)
	if err != nil {
		return nil, err
	}
	defer leave()
	answer := &wire.HealthResponse{State: wire.HealthResponse_OK}
	if err := s.plugin.Health(ctx); err != nil {
		answer.State, answer.Text = wire.HealthResponse_DEGRADED, clip(err.Error())
	}
	answer.Metrics = s.metrics(ctx)
	return answer, nil
}

func (s *server) Drain(ctx context.Context, _ *wire.DrainRequest) (*wire.DrainResponse, error) {
	if err := s.drain(ctx); err != nil {
		return nil, callError("drain", err)
	}
	return &wire.DrainResponse{}, nil
}

func (s *server) drain(ctx context.Context) error {
	s.draining.Lock() // a repeated Drain must not answer before the first one is through
	defer s.draining.Unlock()
	due, err := s.life.drain(ctx)
	if err != nil || !due {
		return err
	}
	return s.plugin.Drain(ctx)
}

// onAbandon names what ends the service of the process. It is called at once if the plugin gave up already.
func (s *server) onAbandon(stop func()) {
	s.ending.Lock()
	s.stopAll = stop
	late := s.gaveUp
	s.ending.Unlock()
	if late {
		stop()
	}
}

// abandon ends the process as a failed one: it can do nothing more.
func (s *server) abandon() {
	s.ending.Lock()
	s.gaveUp = true
	stop := s.stopAll
	s.ending.Unlock()
	if stop != nil {
		stop()
	}
}

func (s *server) abandoned() bool {
	s.ending.Lock()
	defer s.ending.Unlock()
	return s.gaveUp
}

// hostDied drains the plugin when there is nobody left to ask for it.
func (s *server) hostDied() {
	defer s.recovered("drain", nil)
	s.log.Warn("plugin: standard input ended, so the host is gone")
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := s.drain(ctx); err != nil {
		s.log.Error("plugin drain: " + clip(err.Error()))
	}
}

// configureError tells the host what will not get better by itself.
func configureError(err error) error {
	if errors.Is(err, ErrConfig) {
		return status.Error(codes.InvalidArgument, "configure: "+unmarked(err, ErrConfig))
	}
	return callError("configure", err)
}

// unmarked is an error's text without the mark that says whose fault it is: the code says that.
func unmarked(err, mark error) string {
	return clip(strings.Replace(err.Error(), mark.Error()+": ", "", 1))
}

// callError gives an error of a plugin its gRPC code. Unavailable is never among them: to the host it means that the
// plugin is gone.
func callError(what string, err error) error {
	var retry *Retry
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrQuery):
		return status.Error(codes.InvalidArgument, what+": "+unmarked(err, ErrQuery))
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, what+": "+clip(err.Error()))
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, what+": "+clip(err.Error()))
	case errors.As(err, &retry):
		return status.Error(codes.Aborted, what+": "+clip(err.Error()))
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unavailable {
		return err
	}
	return status.Error(codes.Unknown, what+": "+clip(err.Error()))
}
