// Package store keeps picosnitch's records in a database server, append-only, and answers queries about them.
// docs/sqlserver.md describes the tables and what is granted on them. Package server knows the servers' protocols.
//
// # Concurrency
//
// Apply has a session of its own. Queries share a small pool of sessions, and so may run beside Apply and each other.
// There is no goroutine of this package.
package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
)

// name is the plugin's.
const name = "sqlserver"

const (
	readers        = 4                // sessions for queries
	configureLimit = 15 * time.Second // for a server that may be away when the plugin starts
	applyLimit     = 2 * time.Minute  // for a batch, if the host sets no limit
	maxWatermarks  = 64
)

// Store is the sqlserver plugin. It implements [sdk.Store], [sdk.Exporter] and [sdk.Witness].
type Store struct {
	settings sdk.Settings
	server   *server.Server
	writer   *writer
	readers  *server.Pool

	mu      sync.Mutex
	base    string // name of the main table, "" until it was found
	trouble error  // of the last attempt
}

// New makes a store that has connected to nothing yet.
func New() *Store { return &Store{} }

// Describe says what the plugin is. The server that it must reach and the files that it must read are in its settings,
// which it does not have yet.
func (s *Store) Describe() sdk.Description {
	schema, err := server.Schema()
	if err != nil {
		schema = "" // cannot be: it is made of texts
	}
	return sdk.Description{
		Name:         name,
		Version:      "1",
		Needs:        sdk.Needs{MemoryMB: 256, DiskMB: 1},
		ConfigSchema: schema,
	}
}

// Configure reads the settings and looks for the server. A server that is away, or refuses us, is no error: what it holds
// is asked for with every batch, and the host keeps what it is owed.
func (s *Store) Configure(ctx context.Context, settings sdk.Settings) error {
	srv, err := server.Parse(settings.Config)
	if err != nil {
		return err
	}
	s.settings, s.server = settings, srv
	s.readers = server.NewPool(srv, readers)
	s.writer = &writer{server: srv}
	if settings.ReadOnly || srv.Browse {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, configureLimit)
	defer cancel()
	err = s.writer.open(ctx)
	s.note(answer(err, srv))
	return nil
}

// note remembers trouble for Health, and logs when it begins and ends.
func (s *Store) note(trouble error) {
	var retry *sdk.Retry
	if errors.As(trouble, &retry) {
		trouble = retry.Err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writer.session != nil {
		s.base = s.writer.base
	}
	switch {
	case trouble != nil && s.trouble == nil:
		slog.Warn("sqlserver: " + trouble.Error())
	case trouble == nil && s.trouble != nil:
		slog.Info("sqlserver: " + s.server.Name + " works again")
	}
	s.trouble = trouble
}

// Watermarks tells what is stored of this host's epochs. While the server is away it tells nothing: then Apply, which
// asks the server in any case, finds out what was stored before.
func (s *Store) Watermarks(ctx context.Context) ([]sdk.Watermark, error) {
	if s.settings.ReadOnly || s.writer.session == nil {
		return nil, nil
	}
	marks, err := s.watermarks(ctx)
	if err != nil {
		s.note(answer(err, s.server))
		return nil, nil
	}
	return marks, nil
}

func (s *Store) watermarks(ctx context.Context) ([]sdk.Watermark, error) {
	rows, err := s.writer.session.Query(ctx, `SELECT "epoch", max("last") FROM `+server.Quote(s.writer.base+batchesTable)+
		` WHERE "host_id" = $1 GROUP BY "epoch" ORDER BY max("number") DESC LIMIT `+fmt.Sprint(maxWatermarks),
		hex.EncodeToString(s.settings.HostID[:]))
	if err != nil {
		return nil, fmt.Errorf("read watermarks: %w", err)
	}
	var marks []sdk.Watermark
	for rows.Next() {
		var (
			epoch string
			last  int64
		)
		if err := rows.Scan(&epoch, &last); err != nil {
			return nil, errors.Join(fmt.Errorf("read watermarks: %w", err), rows.Close())
		}
		raw, err := hex.DecodeString(epoch)
		if err != nil || len(raw) != len(sdk.Epoch{}) {
			continue // not written by us
		}
		marks = append([]sdk.Watermark{{Epoch: sdk.Epoch(raw), Sequence: uint64(last)}}, marks...)
	}
	return marks, rows.Close()
}

// Apply stores a batch, see [sdk.Sink]. Every failure is a Retry: only the server's administrator can mend it.
func (s *Store) Apply(ctx context.Context, b *sdk.Batch) error {
	if s.settings.ReadOnly {
		return errors.New("apply: opened read-only")
	}
	if s.server.Browse {
		return nil // as the settings say, nothing of this host is to be stored
	}
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	err := answer(s.writer.apply(ctx, b), s.server)
	var rewind *sdk.Rewind
	if errors.As(err, &rewind) {
		s.note(nil)
	} else {
		s.note(err)
	}
	return err
}

// Health tells what hinders storing.
func (s *Store) Health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Drain closes the sessions; what Apply answered is at the server already.
func (s *Store) Drain(context.Context) error {
	s.writer.close()
	s.readers.Close()
	return nil
}

// table is the name of the main table for a query.
func (s *Store) table(ctx context.Context, session server.Session) (string, error) {
	s.mu.Lock()
	base := s.base
	s.mu.Unlock()
	if base != "" {
		return base, nil
	}
	base = s.server.Table
	existing, err := columnsOf(ctx, session, base)
	if err != nil {
		return "", fmt.Errorf("look at table %s: %w", base, err)
	}
	if isOld(existing) {
		base += nextSuffix
	}
	s.mu.Lock()
	s.base = base
	s.mu.Unlock()
	return base, nil
}
