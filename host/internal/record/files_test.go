package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestDirectoryReadsReplacesAndAppends(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	d, err := NewDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDirectory(path); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if _, err := d.ReadFile("a", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, content := range []string{"one", "two"} {
		if err := d.WriteFile("a", []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Append("a", []byte("+")); err != nil {
		t.Fatal(err)
	}
	if got, err := d.ReadFile("a", 4); err != nil || string(got) != "two+" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := d.ReadFile("a", 3); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	info, err := os.Stat(filepath.Join(path, "a"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}
