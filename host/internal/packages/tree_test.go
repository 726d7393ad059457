package packages

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is a root directory with files: a path that ends in "@" is a link to the content.
func tree(t *testing.T, files map[string]string) Options {
	t.Helper()
	root := t.TempDir()
	for _, links := range []bool{true, false} {
		for path, content := range files {
			name, isLink := path, path[len(path)-1] == '@'
			if isLink != links {
				continue
			}
			if isLink {
				name = path[:len(path)-1]
			}
			name = filepath.Join(root, name)
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
			if isLink {
				must(t, os.Symlink(content, name))
			} else {
				must(t, os.WriteFile(name, []byte(content), 0o644))
			}
		}
	}
	return Options{Root: root, Trust: uint32(os.Geteuid()), RPM: "/nonexistent", Locks: filepath.Join(root, "locks"), MaxBytes: 1 << 20}
}

func md5sum(content string) string {
	sum := md5.Sum([]byte(content))
	return hex.EncodeToString(sum[:])
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	must(t, err)
	must(t, w.Close())
	return b.String()
}

func find(t *testing.T, o Options, path string) Owner {
	t.Helper()
	owner, err := Find(t.Context(), o, path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return owner
}
