// Package store keeps picosnitch's records in a SQLite file and answers queries about them. docs/schema.md describes the
// file. One program image is interned once however many rows refer to it; the view `connections` shows the flat rows.
//
// # Concurrency
//
// One connection writes. Who has the token of Store.turn may use it: Apply, for a batch, or the janitor, for one small
// step of retention. Queries run on connections of their own, which cannot write, and see the last committed state. The
// janitor is the only goroutine; Drain ends it and waits for it.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"

	"github.com/picosnitch/picosnitch/sdk"
)

// name is the plugin's.
const name = "sqlite"

// Store is the sqlite plugin. It implements [sdk.Store].
type Store struct {
	driver  *sqlite.Driver
	columns map[string]column

	settings sdk.Settings
	config   config
	path     string
	readers  atomic.Pointer[sql.DB]

	turn   chan struct{} // holds one token; its owner may use writer
	writer *writer       // nil when read-only, or when a damaged file could not be replaced yet

	stop context.CancelFunc
	wait sync.WaitGroup

	mu      sync.Mutex
	trouble error // of the last Apply or step of retention, guarded by mu
}

// New makes a store that has opened nothing yet.
func New() *Store {
	s := &Store{turn: make(chan struct{}, 1), stop: func() {}}
	s.turn <- struct{}{}
	return s
}

// Describe says what the plugin is and needs: no network, no path but its own directory.
func (s *Store) Describe() sdk.Description {
	return sdk.Description{
		Name:         name,
		Version:      "1",
		Needs:        sdk.Needs{MemoryMB: 256, DiskMB: 1024},
		ConfigSchema: configSchema,
	}
}

// Configure opens the file, or begins one; what lies in its place and is not ours is renamed. Read-only, it opens what
// is there for queries and changes nothing.
func (s *Store) Configure(ctx context.Context, settings sdk.Settings) error {
	var err error
	if s.config, err = parseConfig(settings.Config); err != nil {
		return err
	}
	if s.columns, err = columnsByName(); err != nil {
		return err
	}
	if s.driver, err = newDriver(); err != nil {
		return err
	}
	directory, err := filepath.Abs(settings.Directory)
	if err != nil {
		return fmt.Errorf("%w: directory: %w", sdk.ErrConfig, err)
	}
	s.settings, s.path = settings, filepath.Join(directory, fileName)
	if settings.ReadOnly {
		return s.openReadOnly(ctx)
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	s.startJanitor()
	return nil
}

// open opens the file for writing, setting aside what is not ours or damaged. The caller has the turn, or is alone.
func (s *Store) open(ctx context.Context) error {
	moved, err := setAside(s.path)
	if err != nil {
		return err
	}
	if moved != "" {
		slog.Warn("sqlite: a file that is not this version's was set aside", "path", s.path, "now", moved)
	}
	conn, err := openWriter(s.driver, s.path)
	if corrupt(err) {
		if moved, err = setAsideCorrupt(s.path); err != nil {
			return fmt.Errorf("set damaged file aside: %w", err)
		}
		slog.Error("sqlite: a damaged file was set aside, a new one begins", "path", s.path, "now", moved)
		conn, err = openWriter(s.driver, s.path)
	}
	if err != nil {
		return err
	}
	readers, err := openReaders(ctx, s.driver, s.path)
	if err != nil {
		return errors.Join(err, conn.close())
	}
	s.writer = newWriter(conn)
	s.readers.Store(readers)
	return nil
}

// Watermarks tells what is stored of this host's epochs.
func (s *Store) Watermarks(ctx context.Context) ([]sdk.Watermark, error) {
	rows, err := s.readers.Load().QueryContext(ctx,
		"SELECT epoch, sequence FROM epochs WHERE host_id = ? AND sequence > 0 ORDER BY id", s.settings.HostID[:])
	if err != nil {
		return nil, fmt.Errorf("read watermarks: %w", err)
	}
	defer rows.Close()
	var marks []sdk.Watermark
	for rows.Next() {
		var (
			epoch    []byte
			sequence int64
		)
		if err := rows.Scan(&epoch, &sequence); err != nil {
			return nil, fmt.Errorf("read watermarks: %w", err)
		}
		mark := sdk.Watermark{Sequence: uint64(sequence)}
		copy(mark.Epoch[:], epoch)
		marks = append(marks, mark)
	}
	return marks, rows.Err()
}

// Apply stores a batch, see [sdk.Sink]. A batch that was stored before is acknowledged without a write.
func (s *Store) Apply(ctx context.Context, b *sdk.Batch) error {
	if s.settings.ReadOnly {
		return errors.New("apply: opened read-only")
	}
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	err := s.apply(ctx, b)
	answer := applyError(err, s.path)
	var retry *sdk.Retry
	if answer == nil || errors.As(answer, &retry) {
		s.setTrouble(answer)
	}
	return answer
}

// apply stores a batch. When the file turns out to be damaged it is set aside, and a new one begins.
func (s *Store) apply(ctx context.Context, b *sdk.Batch) error {
	if s.writer == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	err := s.writer.apply(ctx, b)
	if !corrupt(err) {
		return err
	}
	slog.Error("sqlite: the file is damaged", "path", s.path, "error", err)
	if err := s.close(); err != nil {
		slog.Warn("sqlite: close the damaged file", "error", err)
	}
	moved, err := setAsideCorrupt(s.path)
	if err != nil {
		return fmt.Errorf("set damaged file aside: %w", err)
	}
	slog.Error("sqlite: the damaged file was set aside, a new one begins", "now", moved)
	if err := s.open(ctx); err != nil {
		return err
	}
	return s.writer.apply(ctx, b)
}

// Health tells what hinders storing.
func (s *Store) Health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

func (s *Store) setTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = err
}

// Drain ends retention and closes the file; what Apply answered is in it already.
func (s *Store) Drain(ctx context.Context) error {
	s.stop()
	s.wait.Wait() // a step of retention is short
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	return s.close()
}

// close closes all connections; the caller has the turn. The last one to close folds the -wal file into the main one.
func (s *Store) close() error {
	var errs []error
	if readers := s.readers.Swap(nil); readers != nil {
		errs = append(errs, readers.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.conn.close())
		s.writer = nil
	}
	return errors.Join(errs...)
}

// take waits for the turn to write.
func (s *Store) take(ctx context.Context) error {
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) give() { s.turn <- struct{}{} }
