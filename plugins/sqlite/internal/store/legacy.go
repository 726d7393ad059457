package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"slices"

	"modernc.org/sqlite"

	"github.com/picosnitch/picosnitch/sdk"
)

// isLegacy says whether a file whose user_version is 0 to 4 holds the table of picosnitch 1.0.3. A file without any
// table is not; a file with other tables is an error, since it is somebody's. The file is opened as immutable: no lock,
// no journal played back, nothing created.
func isLegacy(path string, h header) (bool, error) {
	tables, err := immutableTables(path)
	if corrupt(err) {
		// In the middle of a transaction that died, when its journal lies there; otherwise damaged.
		if info, statErr := os.Stat(path + "-journal"); statErr == nil && info.Size() > 0 && !h.wal {
			return true, nil
		}
		return false, err
	}
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", path, err)
	}
	switch {
	case slices.Contains(tables, "connections"):
		return true, nil
	case len(tables) == 0:
		return false, nil
	}
	return false, fmt.Errorf("%w: %s is a database of another program (user_version %d, tables %q); move it away",
		sdk.ErrConfig, path, h.userVersion, tables)
}

func immutableTables(path string) ([]string, error) {
	c, err := openConn(&sqlite.Driver{}, dsn(path, "mode=ro&immutable=1"))
	if err != nil {
		return nil, err
	}
	var tables []string
	err = c.each(context.Background(), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`,
		1, func(row []driver.Value) error {
			name, _ := row[0].(string)
			tables = append(tables, name)
			return nil
		})
	return tables, errors.Join(err, c.close())
}
