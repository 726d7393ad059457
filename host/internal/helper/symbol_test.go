package helper

import (
	"bytes"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/picosnitch/picosnitch/test/need"
)

// systemLibrary is the machine's own C library.
func systemLibrary(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/lib/*/libc.so.6", "/lib64/libc.so.6", "/lib/ld-musl-*.so.1"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	need.Have(t, "a shared C library", false)
	return ""
}

func TestFunctionOfTheCLibraryIsFound(t *testing.T) {
	t.Parallel()
	pool := newPool(t, Options{})
	path := systemLibrary(t)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	offset, err := pool.Symbol(t.Context(), SymbolRequest{File: file, Name: "getaddrinfo"})
	if err != nil {
		t.Fatal(err)
	}
	library, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close()
	text := library.Section(".text")
	if offset < text.Offset || offset >= text.Offset+text.Size {
		t.Errorf("offset %#x is not in the text at %#x, %#x bytes", offset, text.Offset, text.Size)
	}
	if _, err := pool.Symbol(t.Context(), SymbolRequest{File: file, Name: "no_such_function"}); !errors.Is(err, ErrUnreadable) {
		t.Errorf("a function that is not there: %v", err)
	}
}

func TestWhatIsNoLibraryIsRefused(t *testing.T) {
	t.Parallel()
	pool := newPool(t, Options{})
	whole, err := os.ReadFile(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "text": []byte("getaddrinfo"), "cut": whole[:1000], "header and zeros": append(bytes.Clone(whole[:64]), make([]byte, 4096)...),
	} {
		path := filepath.Join(t.TempDir(), "libc.so.6")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if offset, err := pool.Symbol(t.Context(), SymbolRequest{File: file, Name: "getaddrinfo"}); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: offset %#x, %v", name, offset, err)
		}
	}
	if _, err := pool.Symbol(t.Context(), SymbolRequest{Name: "getaddrinfo"}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no file: %v", err)
	}
}
