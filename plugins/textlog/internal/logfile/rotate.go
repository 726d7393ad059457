package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// rotate moves the log to conn.log.1, that one to conn.log.2 and so on; more than keep are removed. The log's name is free
// afterwards.
func rotate(dir string, keep int) error {
	for i := keep - 1; i >= 0; i-- {
		err := os.Rename(numbered(dir, i), numbered(dir, i+1))
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for old logs: %w", err)
	}
	for _, e := range entries {
		if n, ok := number(e.Name()); ok && n > keep {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove old log: %w", err)
			}
		}
	}
	return nil
}

// numbered is the path of the i-th old log, of the log itself for 0.
func numbered(dir string, i int) string {
	if i == 0 {
		return filepath.Join(dir, logName)
	}
	return filepath.Join(dir, logName+"."+strconv.Itoa(i))
}

// number is the inverse of numbered, for names that it makes.
func number(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, logName+".")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n > 0 && digits == strconv.Itoa(n)
}
