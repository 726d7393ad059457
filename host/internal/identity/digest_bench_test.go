package identity

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// benchSize is large for an executable, and small enough for the page cache.
const benchSize = 256 << 20

func benchFile(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "large")
	if err := os.WriteFile(path, make([]byte, benchSize), 0o644); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	return path
}

// BenchmarkDigest is what a worker does on one core; to be compared with BenchmarkSha256sum.
func BenchmarkDigest(b *testing.B) {
	file, err := os.Open(benchFile(b))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	buffer := make([]byte, readSize)
	for b.Loop() {
		if _, err := digest(file, buffer, time.Now().Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSha256sum is the tool of coreutils, its start included.
func BenchmarkSha256sum(b *testing.B) {
	path := benchFile(b)
	for b.Loop() {
		if err := exec.Command("sha256sum", path).Run(); err != nil {
			b.Fatal(err)
		}
	}
}
