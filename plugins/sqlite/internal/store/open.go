package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/picosnitch/picosnitch/sdk"
)

// busyTimeout is how long a statement waits for another program's lock. The host's deadlines are longer.
const busyTimeout = 2 * time.Second

// openWriter opens or creates our file. It fails with [sdk.ErrConfig] at a file that a newer picosnitch made, and with
// an error that is [corrupt] at a damaged one.
func openWriter(d *sqlite.Driver, path string) (*conn, error) {
	// Made by us, since SQLite would let everybody read it; its -wal and -shm get the mode of the file.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("close %s: %w", path, err)
	}
	c, err := openConn(d, dsn(path, fmt.Sprintf("mode=rwc&_dqs=0&_busy_timeout=%d", busyTimeout.Milliseconds())))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := prepareFile(c, path); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func prepareFile(c *conn, path string) error {
	if err := checkVersion(c, path); err != nil {
		return err
	}
	// FULL: what Apply calls safe outlives a power cut. The first line matters only before the file's first page.
	err := c.script(`PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA cache_size = -6000;
PRAGMA journal_size_limit = 16777216;
PRAGMA wal_autocheckpoint = 2000;`)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	if err := migrate(c); err != nil {
		return fmt.Errorf("schema of %s: %w", path, err)
	}
	return nil
}

// checkVersion refuses files that this program does not understand, before anything is changed.
func checkVersion(c *conn, path string) error {
	found, _, err := c.number("PRAGMA user_version")
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	id, _, err := c.number("PRAGMA application_id")
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	switch {
	case id == applicationID && found > version:
		return fmt.Errorf("%w: %s was made by a newer picosnitch (version %d, this one knows %d): update picosnitch or move the file away",
			sdk.ErrConfig, path, found, version)
	case id != applicationID && found > legacyVersion:
		return fmt.Errorf("%w: %s is a database of another program (user_version %d): move it away", sdk.ErrConfig, path, found)
	}
	return nil
}

// openReaders opens connections that answer queries, and are not able to change anything. A file that nobody writes and
// whose directory is closed to us, or full, is read as immutable, if it has no -wal with newer rows.
func openReaders(ctx context.Context, d *sqlite.Driver, path string) (*sql.DB, error) {
	parameters := fmt.Sprintf("mode=ro&_dqs=0&_busy_timeout=%d&_query_only=1&_pragma=cache_size(-2000)", busyTimeout.Milliseconds())
	db, err := openPool(ctx, d, dsn(path, parameters))
	if err == nil || code(err) != lib.SQLITE_CANTOPEN && !full(err) {
		return db, err
	}
	if info, statErr := os.Stat(path + "-wal"); statErr == nil && info.Size() > 0 {
		if full(err) {
			return nil, fmt.Errorf("%w (its -wal file holds newer rows, and the disk has no room to read them: free some space)", err)
		}
		return nil, fmt.Errorf("%w (its -wal file holds newer rows, and its directory is not writable for uid %d: run as its owner)",
			err, os.Geteuid())
	}
	return openPool(ctx, d, dsn(path, parameters+"&immutable=1"))
}

func openPool(ctx context.Context, d *sqlite.Driver, name string) (*sql.DB, error) {
	db := sql.OpenDB(connector{d, name})
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(1)
	db.SetConnMaxIdleTime(30 * time.Second) // a connection costs memory; nobody asks most of the time
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openReadOnly opens what is there for queries.
func (s *Store) openReadOnly(ctx context.Context) error {
	h, err := readHeader(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: there is no history yet: %w", sdk.ErrConfig, err)
	case err != nil:
		return fmt.Errorf("open %s: %w", s.path, err)
	case h.userVersion > 0 && h.applicationID != applicationID:
		return fmt.Errorf("%w: %s is not a database of this picosnitch (user_version %d); starting the daemon sets it aside",
			sdk.ErrConfig, s.path, h.userVersion)
	}
	readers, err := openReaders(ctx, s.driver, s.path)
	if err != nil {
		return fmt.Errorf("open %s to read: %w", s.path, err)
	}
	var found int64
	err = readers.QueryRowContext(ctx, "PRAGMA user_version").Scan(&found)
	if err == nil && found != version {
		err = fmt.Errorf("%w: %s has version %d, this picosnitch reads %d", sdk.ErrConfig, s.path, found, version)
	}
	if err != nil {
		return errors.Join(err, readers.Close())
	}
	s.readers.Store(readers)
	return nil
}

// connector opens connections of a driver that is registered nowhere.
type connector struct {
	driver *sqlite.Driver
	name   string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.name) }
func (c connector) Driver() driver.Driver                        { return c.driver }
