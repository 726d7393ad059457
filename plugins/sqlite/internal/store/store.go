// Package store keeps picosnitch's records in a SQLite file and answers queries about them. docs/schema.md describes the
// file. One program image is interned once however many rows refer to it; the view `connections` shows the flat rows.
//
// # Concurrency
//
// One connection writes. Who has the token of Store.turn may use it: Apply, for a batch, the janitor, for one small step of
// retention, or an import, for some rows. Queries, checks and exports run on connections of their own, which cannot write,
// and see the last committed state. The janitor and the import of an old database are goroutines that Drain ends and
// waits for; a query that scans has one that tells how far it is, and waits for it.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/picosnitch/picosnitch/sdk"
)

// name is the plugin's.
const name = "sqlite"

// temporaryEnv tells SQLite where a large query may sort. It is read once, when the process opens its first database. The
// sandbox has no room elsewhere.
const temporaryEnv = "SQLITE_TMPDIR"

// Store is the sqlite plugin. It implements [sdk.Store].
type Store struct {
	now      func() time.Time
	progress *scans
	rowsOnly bool // queries use no roll-ups: a test compares
	driver   *sqlite.Driver
	columns  map[string]column

	settings sdk.Settings
	config   config
	path     string
	readers  atomic.Pointer[sql.DB]

	turn   chan struct{} // holds one token; its owner may use writer
	place  place         // where writer writes
	writer *writer       // nil when read-only, or when a damaged file could not be replaced yet

	importing importing
	stop      context.CancelFunc
	wait      sync.WaitGroup

	mu      sync.Mutex
	trouble error // of the last Apply or step of retention, guarded by mu
	loss    error // a damaged file was set aside, guarded by mu
}

// New makes a store that has opened nothing yet.
func New() *Store {
	s := &Store{now: time.Now, progress: newScans(), turn: make(chan struct{}, 1), stop: func() {}}
	s.turn <- struct{}{}
	return s
}

// Describe says what the plugin is and needs: no network, no path but its own directory.
func (s *Store) Describe() sdk.Description {
	return sdk.Description{
		Name:         name,
		Version:      "1",
		Needs:        sdk.Needs{MemoryMB: 256, DiskMB: 16384},
		ConfigSchema: sdk.Schema(defaults()),
	}
}

// Configure opens the file, or begins one; what lies in its place and is not ours is renamed. Read-only, it opens what
// is there for queries and changes nothing. It also succeeds where the disk is full: Health says so, what is there can be
// asked if it can be read, and Apply opens the file as soon as there is room.
func (s *Store) Configure(ctx context.Context, settings sdk.Settings) error {
	var err error
	if s.config, err = parseConfig(settings.Config); err != nil {
		return err
	}
	if s.columns, err = columnsByName(); err != nil {
		return err
	}
	if s.driver, err = newDriver(s.progress); err != nil {
		return err
	}
	directory, err := filepath.Abs(settings.Directory)
	if err != nil {
		return fmt.Errorf("%w: directory: %w", sdk.ErrConfig, err)
	}
	s.settings, s.path = settings, filepath.Join(directory, fileName)
	if !settings.ReadOnly && os.Getenv(temporaryEnv) == "" {
		if err := os.Setenv(temporaryEnv, directory); err != nil {
			return fmt.Errorf("set %s: %w", temporaryEnv, err)
		}
	}
	if settings.ReadOnly {
		return s.openReadOnly(ctx)
	}
	removeLeftovers(directory) // first: they may be what fills the disk
	if err := s.open(ctx); full(err) {
		s.awaitRoom(ctx, err)
	} else if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.startImport(background)
	s.startJanitor(background)
	return nil
}

// awaitRoom makes do without a writer until Apply finds room.
func (s *Store) awaitRoom(ctx context.Context, err error) {
	trouble := applyError(err, s.path)
	slog.Error("sqlite: nothing can be stored for now", "error", trouble)
	s.setTrouble(trouble)
	if err := s.openReadOnly(ctx); err != nil {
		slog.Warn("sqlite: nor can history be asked", "error", err)
	}
}

// open opens the file for writing, setting aside what is not ours or damaged. The caller has the turn, or is alone.
func (s *Store) open(ctx context.Context) error {
	conn, err := s.openWriter()
	if err != nil {
		return err
	}
	readers, err := openReaders(ctx, s.driver, s.path)
	if err != nil {
		return errors.Join(err, conn.close())
	}
	s.writer, s.place = newWriter(conn, func() time.Time { return s.now() }), placeOf(s.path)
	if before := s.readers.Swap(readers); before != nil { // of the time when there was no room to write
		if err := before.Close(); err != nil {
			slog.Warn("sqlite: close what was open to be read", "error", err)
		}
	}
	return nil
}

// daemon says whether the daemon runs the plugin, which then knows the host. Else a person has it started, perhaps to rescue
// what is there.
func (s *Store) daemon() bool { return s.settings.HostID != [16]byte{} }

// openWriter is [openWriter] where another version's file, or a damaged one, may lie. A damaged one is replaced only for the
// daemon.
func (s *Store) openWriter() (*conn, error) {
	moved, err := setAsideLegacy(s.path)
	if moved != "" {
		slog.Warn("sqlite: a file that is not this version's was set aside", "path", s.path, "now", moved)
	}
	var c *conn
	if err == nil {
		c, err = openWriter(s.driver, s.path)
	}
	switch {
	case !corrupt(err):
		return c, err
	case !s.daemon():
		return nil, fmt.Errorf("%s is damaged, the daemon will set it aside and begin a new one: %w", s.path, err)
	}
	if err := s.setAside(err); err != nil {
		return nil, err
	}
	return openWriter(s.driver, s.path)
}

// setAside moves the damaged file, which is not open, out of the way of a new one.
func (s *Store) setAside(damage error) error {
	moved, err := setAsideCorrupt(s.path)
	if err != nil {
		return fmt.Errorf("set damaged file aside: %w", err)
	}
	slog.Error("sqlite: the damaged file was set aside, a new one begins", "path", s.path, "now", moved, "error", damage)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss = fmt.Errorf("the history was damaged and is set aside as %s, a new one has begun; this is told until the plugin is started again", moved)
	return nil
}

// Watermarks tells what is stored of this host's epochs; nothing while the file cannot be opened, or is damaged there.
func (s *Store) Watermarks(ctx context.Context) ([]sdk.Watermark, error) {
	marks, err := s.watermarks(ctx)
	if !corrupt(err) || s.settings.ReadOnly || !s.daemon() {
		return marks, err
	}
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.give()
	return nil, s.replace(ctx, err)
}

func (s *Store) watermarks(ctx context.Context) ([]sdk.Watermark, error) {
	readers := s.readers.Load()
	if readers == nil {
		return nil, nil
	}
	rows, err := readers.QueryContext(ctx,
		`SELECT epoch, sequence FROM (SELECT id, epoch, sequence FROM epochs WHERE host_id = ? AND sequence > 0 AND origin = ''
ORDER BY id DESC LIMIT 64) ORDER BY id`, s.settings.HostID[:])
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
	if s.writer != nil && s.place.left(s.path) {
		slog.Error("sqlite: the database was deleted or replaced by another program; what lies there now is opened", "path", s.path)
		if err := s.close(); err != nil {
			slog.Warn("sqlite: close what was deleted", "error", err)
		}
	}
	if s.writer == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	err := s.writer.apply(ctx, b)
	if !corrupt(err) {
		return err
	}
	if err := s.replace(ctx, err); err != nil {
		return err
	}
	return s.writer.apply(ctx, b)
}

// replace sets the open file aside, which turned out to be damaged, and begins a new one. The caller has the turn.
func (s *Store) replace(ctx context.Context, damage error) error {
	if err := s.close(); err != nil {
		slog.Warn("sqlite: close the damaged file", "error", err)
	}
	if err := s.setAside(damage); err != nil {
		return err
	}
	return s.open(ctx)
}

// Health tells what hinders storing, or that what was stored is damaged.
func (s *Store) Health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.importing.mu.Lock()
	defer s.importing.mu.Unlock()
	switch {
	case s.trouble != nil:
		return s.trouble
	case s.loss != nil:
		return s.loss
	case s.importing.err != nil:
		return fmt.Errorf("take over %s: %w", oldFile, s.importing.err)
	}
	return nil
}

// Metrics tells sizes, and how far an import in the background is, for [sdk.Meter].
func (s *Store) Metrics(ctx context.Context) map[string]int64 {
	s.importing.mu.Lock()
	m := map[string]int64{"import_rows": s.importing.rows, "import_rows_total": s.importing.total}
	s.importing.mu.Unlock()
	if readers := s.readers.Load(); readers != nil {
		var bytes, free int64
		err := readers.QueryRowContext(ctx, `SELECT page_count * page_size, freelist_count * page_size
FROM pragma_page_count, pragma_page_size, pragma_freelist_count`).Scan(&bytes, &free)
		if err == nil {
			m["database_bytes"], m["database_free_bytes"] = bytes, free
		}
	}
	return m
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
