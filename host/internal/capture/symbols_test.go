package capture

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKernelFunctionsAreNamedByTheirModule(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kallsyms")
	text := "ffffffff81000000 T _stext\nffffffff81234560 t sock_def_readable\nffffffffc0a1b2c0 t xs_data_ready\t[sunrpc]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSymbols(path)
	for address, want := range map[uint64]string{
		0xffffffffc0a1b2c0: "sunrpc", 0xffffffff81000000: "_stext", 0xffffffff81234560: "socket", 1: "socket", 0: "socket",
	} {
		if got := s.name(address); got != want {
			t.Errorf("%x: %q, want %q", address, got, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := s.name(0xffffffffc0a1b2c0); got != "sunrpc" {
		t.Errorf("asked again: %q", got)
	}
}
