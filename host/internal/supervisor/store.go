package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Store is a store plugin that was started only to be asked.
type Store struct {
	instance *instance.Instance
	thread   *process.Thread
	dir      string // of its socket
	once     sync.Once
	err      error
}

// OpenStore starts a store plugin without the daemon: as the calling user, a plain child, opened read-only unless the
// caller says otherwise. The file must belong to root, to the caller, or lie beside the host binary. Only Name, Path,
// SHA256, MemoryMB, Config and Directory of the Spec count. The caller closes it.
func OpenStore(ctx context.Context, spec Spec, readOnly bool) (*Store, error) {
	o := Options{RunDir: os.TempDir()}
	if err := errors.Join(o.fill(), spec.check()); err != nil {
		return nil, fmt.Errorf("open store %.40q: %w", spec.Name, err)
	}
	s, err := startStore(ctx, &o, spec)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", spec.Name, err)
	}
	if err := s.configure(ctx, &o, spec, readOnly); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", spec.Name, err), s.Close())
	}
	return s, nil
}

// startStore returns a store that has shaken hands.
func startStore(ctx context.Context, o *Options, spec Spec) (*Store, error) {
	uid := uint32(os.Geteuid())
	file, err := executable.Open(spec.Path, executable.Rules{
		Host: o.HostBin, Trust: []uint32{uid}, SHA256: spec.SHA256, RunAs: uid,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	s := &Store{thread: process.NewThread()}
	if s.dir, err = os.MkdirTemp("", "picosnitch-"); err == nil {
		s.instance, err = instance.Start(ctx, instance.Options{
			Name: spec.Name, File: file, Thread: s.thread, SocketDir: s.dir, MemoryMB: spec.memory(),
			Log: slog.New(slog.DiscardHandler),
		})
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) configure(ctx context.Context, o *Options, spec Spec, readOnly bool) error {
	describing, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	d, err := s.instance.Client.Plugin.Describe(describing, &wire.DescribeRequest{Wire: wire.Version})
	if err != nil {
		return said("describe", err)
	}
	if d.GetWire() != wire.Version || !slices.Contains(d.GetKinds(), kindStore) {
		return protocolError("it is no store of wire version %d", wire.Version)
	}
	configuring, cancel := context.WithTimeout(ctx, configureTime)
	defer cancel()
	_, err = s.instance.Client.Plugin.Configure(configuring, configuration(o, spec, readOnly, ""))
	if err != nil {
		return said("configure", err)
	}
	return nil
}

// Query asks; see [Supervisor.Query].
func (s *Store) Query(ctx context.Context, q *wire.Query, page func(*wire.QueryPage) error) error {
	return ask(ctx, s.instance.Client, q, page)
}

// Keeper is the part of the plugin that looks after the store; it answers codes.Unimplemented if there is none.
func (s *Store) Keeper() wire.KeeperClient { return s.instance.Client.Keeper }

// Close ends the plugin. Further calls return the first one's error.
func (s *Store) Close() error {
	s.once.Do(func() {
		if s.instance != nil {
			ctx, cancel := context.WithTimeout(context.Background(), drainTime)
			_, _ = s.instance.Client.Plugin.Drain(ctx, &wire.DrainRequest{}) // it was only read
			cancel()
			s.err = s.instance.Close()
		}
		if s.dir != "" {
			s.err = errors.Join(s.err, os.RemoveAll(s.dir))
		}
		s.thread.Close()
	})
	return s.err
}
