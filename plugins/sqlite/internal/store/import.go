package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	oldFile     = "snitch-1.0.3.db"
	importRows  = 1000 // that one step imports: a batch of the host waits so long
	importPause = 5 * time.Millisecond
	importRetry = 5 * time.Second // where the file cannot be opened yet
)

// importing is how far an import in the background is.
type importing struct {
	mu          sync.Mutex
	rows, total int64
	err         error
}

func (i *importing) set(rows, total int64, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rows, i.total, i.err = rows, total, err
}

// Import takes the rows of a database of picosnitch 1.0.3 or 2.x, see [sdk.Importer]. They become a run of the host of
// their own, named after the file's contents: the same file again, or after an interruption, goes on where it ended.
func (s *Store) Import(ctx context.Context, name string, size uint64, r io.Reader, progress func(*wire.ImportProgress) error) error {
	if s.settings.ReadOnly {
		return errReadOnly
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), importPattern)
	if err != nil {
		return fmt.Errorf("%s: %w", sdk.EscapeString(name), err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // a leftover goes at the next start
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", sdk.EscapeString(name), err)
	}
	if uint64(n) != size {
		return fmt.Errorf("%w: %s: %d of %d bytes came", sdk.ErrQuery, sdk.EscapeString(name), n, size)
	}
	if err := s.importFile(ctx, f.Name(), name, [32]byte(sum.Sum(nil)), progress); err != nil {
		return fmt.Errorf("%s: %w", sdk.EscapeString(name), err)
	}
	return nil
}

// importFile imports a file that is ours to open, and lies still. sum is that of the file which it is a copy of.
func (s *Store) importFile(ctx context.Context, path, name string, sum [32]byte, progress func(*wire.ImportProgress) error) error {
	parameters := "mode=ro&immutable=1"
	if _, err := os.Stat(path + "-journal"); err == nil {
		parameters = "mode=rw" // plays back what was going on
	} else if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		parameters = "mode=rw"
	}
	f, err := openForeign(ctx, s, path, parameters)
	if err != nil {
		return err
	}
	defer func() { _ = f.db.Close() }() // it was only read
	i := &intake{store: s, epoch: sdk.Epoch(sum[:16]), name: name, total: f.total, progress: progress}
	have, err := i.begin(ctx)
	if err != nil {
		return err
	}
	i.done, i.skipped = have, have
	if err := i.warn(ctx, f); err != nil {
		return err
	}
	err = f.each(ctx, have, func(r *wire.Record) error {
		if i.records = append(i.records, r); len(i.records) < importRows {
			return nil
		}
		return i.flush(ctx)
	})
	if err != nil {
		return err
	}
	if err := i.flush(ctx); err != nil {
		return err
	}
	return i.tell(true, i.result())
}

// startImport takes over, in the background, the database of 1.0.3 that lies in the directory. It is never written to.
func (s *Store) startImport(ctx context.Context) {
	s.wait.Go(func() {
		for !s.writable(ctx) { // no room to open the file
			if pause(ctx, importRetry) != nil {
				return
			}
		}
		if err := s.importOld(ctx, filepath.Join(filepath.Dir(s.path), oldFile)); err != nil && ctx.Err() == nil {
			s.importing.set(0, 0, err)
			slog.Error("sqlite: the database of picosnitch 1.0.3 could not be taken over", "error", err)
		}
	})
}

// writable tells whether the file is open to be written to.
func (s *Store) writable(ctx context.Context) bool {
	if s.take(ctx) != nil {
		return false
	}
	defer s.give()
	return s.writer != nil
}

// importOld imports a file unless that was done. What it told of itself then is in `state`, so that a large file need
// not be read again at every start.
func (s *Store) importOld(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err != nil {
		return err
	}
	mark := fmt.Sprintf("imported %d bytes of %d", info.Size(), info.ModTime().UnixNano())
	if known, err := s.marked(ctx, mark); err != nil || known {
		return err
	}
	slog.Info("sqlite: taking over the database of picosnitch 1.0.3", "path", path)
	copied, sum, err := copyAside(path)
	defer removeAll(copied)
	if err != nil {
		return err
	}
	err = s.importFile(ctx, copied, oldFile, sum, func(p *wire.ImportProgress) error {
		s.importing.set(int64(p.GetRows()), int64(p.GetTotal()), nil)
		if p.GetText() != "" {
			slog.Info("sqlite: " + oldFile + ": " + p.GetText())
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	slog.Info("sqlite: the database of picosnitch 1.0.3 was taken over", "path", path)
	return s.setMark(ctx, mark)
}

// copyAside copies a file and what SQLite keeps beside it, so that a journal can be played back without touching the
// original. sum is that of the file alone.
func copyAside(path string) (copied string, sum [32]byte, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), importPattern)
	if err != nil {
		return "", sum, err
	}
	copied = f.Name()
	if err := f.Close(); err != nil {
		return copied, sum, err
	}
	for _, suffix := range []string{"", "-journal", "-wal"} {
		s, err := copyFile(path+suffix, copied+suffix)
		if suffix == "" {
			sum = s
		}
		if err != nil && (suffix == "" || !errors.Is(err, os.ErrNotExist)) {
			return copied, sum, err
		}
	}
	return copied, sum, nil
}

func copyFile(from, to string) (sum [32]byte, err error) {
	in, err := os.Open(from)
	if err != nil {
		return sum, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	return [32]byte(h.Sum(nil)), errors.Join(err, out.Close())
}

func removeAll(path string) {
	if path == "" {
		return
	}
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		_ = os.Remove(path + suffix) // what is left goes at the next start
	}
}

func (s *Store) marked(ctx context.Context, mark string) (known bool, err error) {
	if err := s.take(ctx); err != nil {
		return false, err
	}
	defer s.give()
	if s.writer == nil {
		return false, errNotOpen
	}
	_, known, err = s.writer.conn.number("SELECT value FROM state WHERE name = ?", mark)
	return known, err
}

func (s *Store) setMark(ctx context.Context, mark string) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	if s.writer == nil {
		return errNotOpen
	}
	_, err := s.writer.conn.exec("INSERT INTO state VALUES (?, 1) ON CONFLICT DO NOTHING", mark)
	return err
}
