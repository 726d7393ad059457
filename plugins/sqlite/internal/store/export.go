package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// Export writes the rows of `connections`, or a consistent copy of the file, see [sdk.Exporter]. Text stands as it does in
// the database, escaped.
func (s *Store) Export(ctx context.Context, r *wire.ExportRequest, w io.Writer) error {
	if r.GetFormat() == wire.ExportFormat_EXPORT_BACKUP {
		return s.backup(ctx, w)
	}
	out, err := newRowWriter(r.GetFormat(), w)
	if err != nil {
		return err
	}
	err = s.reading(ctx, func(tx *sql.Tx) error { return s.exportRows(ctx, tx, r, out) })
	if err != nil {
		return err
	}
	return out.Close()
}

func (s *Store) exportRows(ctx context.Context, tx *sql.Tx, r *wire.ExportRequest, out storekit.RowWriter) error {
	ask := &statement{columns: s.columns}
	filter, err := ask.filter(r.GetWhere())
	if err != nil {
		return err
	}
	condition := filter
	if !ask.layers {
		condition += fmt.Sprintf(" AND f.kind < %d", kindOther)
	}
	if from, to := rangeOf(&wire.Query{Start: r.GetStart(), End: r.GetEnd()}); from > everLow || to < math.MaxInt64 {
		condition += " AND " + ask.withinSQL(from, to)
	}
	rows, err := newFlattener(ctx, tx, false)
	if err != nil {
		return err
	}
	defer rows.close()
	return rows.each(ctx, condition, ask.args, func(r flatRow) error { return out.Write(r.values) })
}

func newRowWriter(format wire.ExportFormat, w io.Writer) (storekit.RowWriter, error) {
	switch format {
	case wire.ExportFormat_EXPORT_CSV:
		return storekit.NewCSV(w)
	case wire.ExportFormat_EXPORT_JSON:
		return storekit.NewJSON(w), nil
	case wire.ExportFormat_EXPORT_PARQUET:
		return storekit.NewParquet(w)
	}
	return nil, fmt.Errorf("%w: export format %v is not known; there are CSV, JSON, PARQUET and BACKUP", sdk.ErrQuery, format)
}

// The names of files that are only there while something is going on; what a killed plugin left is removed at start.
const (
	backupPattern = "backup-*.tmp"
	importPattern = "import-*.tmp"
)

// removeLeftovers removes what a killed plugin left of a backup or an import.
func removeLeftovers(directory string) {
	for _, pattern := range []string{backupPattern, importPattern} {
		names, _ := filepath.Glob(filepath.Join(directory, pattern) + "*") // the pattern is right
		for _, name := range names {
			_ = os.Remove(name) // tried again at the next start
		}
	}
}

// backup writes a copy of the file as it is at one moment, without free pages. The copy lies beside the file meanwhile, also
// when that is only to be read: there must be room for it.
func (s *Store) backup(ctx context.Context, w io.Writer) (err error) {
	f, err := os.CreateTemp(filepath.Dir(s.path), backupPattern)
	if err != nil {
		return fmt.Errorf("make a copy: %w", err)
	}
	defer func() {
		_ = f.Close() // only read
		if gone := os.Remove(f.Name()); err == nil && gone != nil {
			err = fmt.Errorf("remove the copy: %w", gone)
		}
	}()
	c, err := openConn(s.driver, dsn(s.path, "mode=ro&_busy_timeout=2000"))
	if err != nil {
		return fmt.Errorf("make a copy: %w", err)
	}
	// SQLite takes an empty file for the target, and none with anything in it.
	if err := errors.Join(c.once(ctx, "VACUUM INTO ?", f.Name()), c.close()); err != nil {
		return fmt.Errorf("copy %s: %w", s.path, err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("send the copy: %w", err)
	}
	return nil
}
