package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/picosnitch/picosnitch/sdk"
)

// code is the primary result code of SQLite in an error, 0 when there is none.
func code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// corrupt says whether an error means that the file itself is damaged.
func corrupt(err error) bool {
	c := code(err)
	return c == lib.SQLITE_CORRUPT || c == lib.SQLITE_NOTADB || errors.Is(err, errNotSQLite)
}

// full says whether an error means that the disk, or what the host grants of it, has no room left. It may be the room for
// the -shm file, without which a file with a -wal cannot be opened.
func full(err error) bool {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == lib.SQLITE_IOERR_SHMSIZE {
		return true
	}
	return code(err) == lib.SQLITE_FULL || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// applyError turns what went wrong with a batch into an answer of the contract. Nothing of the batch is stored then, so
// that sending it again loses nothing.
func applyError(err error, path string) error {
	var (
		rewind *sdk.Rewind
		reject *sdk.Rejection
	)
	if err == nil || errors.As(err, &rewind) || errors.As(err, &reject) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	wait, downstream, what := 5*time.Second, true, ""
	switch kind := code(err); {
	case full(err):
		what = "no space left for " + path + "; free some space, or lower `DB retention (days)`"
	case kind == lib.SQLITE_READONLY || errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission):
		what = path + " cannot be written (read-only file, directory or file system)"
	case kind == lib.SQLITE_BUSY || kind == lib.SQLITE_LOCKED || errors.Is(err, errInUse):
		wait, what = time.Second, path+" is locked by another program"
	case kind == lib.SQLITE_IOERR:
		what = "disk error at " + path
	case kind == lib.SQLITE_CANTOPEN:
		what = path + " or its -wal file cannot be opened"
	default:
		wait, downstream, what = time.Second, false, "store in "+path
	}
	return &sdk.Retry{After: wait, Downstream: downstream, Err: fmt.Errorf("%s: %w", what, err)}
}
