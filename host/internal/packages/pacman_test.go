package packages

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sha(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// arch is a small system with pacman.
func arch(t *testing.T) Options {
	t.Helper()
	const local = "var/lib/pacman/local/"
	return tree(t, map[string]string{
		"bin@": "usr/bin", "usr/sbin@": "bin",
		local + "ALPM_DB_VERSION":       "9\n",
		local + "curl-8.10.1-1/desc":    "%NAME%\ncurl\n\n%VERSION%\n8.10.1-1\n\n%DESC%\n%NAME%\n\n",
		local + "curl-8.10.1-1/files":   "%FILES%\nusr/\nusr/bin/\nusr/bin/curl\nusr/bin/changed\nusr/bin/a b\xff\netc/curlrc\n\n%BACKUP%\netc/curlrc\t" + md5sum("rc") + "\n\n",
		local + "curl-8.10.1-1/mtree":   gzipped(t, "#mtree\n/set type=file uid=0 gid=0 mode=644\n./.PKGINFO time=1.0 size=3 sha256digest=00\n./usr/bin/curl mode=755 size=4 md5digest=00 sha256digest="+sha("curl")+"\n./usr/bin/changed time=1 sha256digest="+sha("x")+"\n./usr/bin/a\\040b\\377 sha256digest="+sha("odd")+"\n./etc/curlrc sha256digest="+sha("rc")+"\n"),
		local + "ancient-1-1/desc":      "%NAME%\nancient\n\n%VERSION%\n2:1-1\n",
		local + "ancient-1-1/files":     "%FILES%\nusr/bin/ancient\nusr/bin/unlisted\n",
		local + "ancient-1-1/mtree":     gzipped(t, "./usr/bin/ancient md5digest="+md5sum("ancient")+"\n"),
		local + "broken-1-1/desc":       "%NAME%\nbroken\n",
		local + "broken-1-1/files":      "%FILES%\nusr/bin/broken\n",
		local + "broken-1-1/mtree":      "no gzip",
		local + "without-mtree-1/desc":  "%NAME%\nwithout\n\n%VERSION%\n1\n",
		local + "without-mtree-1/files": "%FILES%\nusr/bin/without\n",
		"usr/bin/curl":                  "curl",
		"usr/bin/a b\xff":               "odd",
		"usr/bin/changed":               "y",
		"usr/bin/ancient":               "ancient",
		"usr/bin/unlisted":              "u",
		"usr/bin/broken":                "b",
		"usr/bin/without":               "w",
		"etc/curlrc":                    "edited",
	})
}

func TestPacmanOwners(t *testing.T) {
	t.Parallel()
	o := arch(t)
	pacman := func(name, version, path string, c Checksum, algorithm string) Owner {
		return Owner{Manager: "pacman", Package: name, Version: version, Path: path, Checksum: c, Algorithm: algorithm}
	}
	for path, want := range map[string]Owner{
		"/usr/bin/curl":     pacman("curl", "8.10.1-1", "/usr/bin/curl", ChecksumMatch, "sha256"),
		"/sbin/curl":        {},
		"/usr/sbin/curl":    pacman("curl", "8.10.1-1", "/usr/bin/curl", ChecksumMatch, "sha256"),
		"/usr/bin/a b\xff":  pacman("curl", "8.10.1-1", "/usr/bin/a b\xff", ChecksumMatch, "sha256"),
		"/usr/bin/changed":  pacman("curl", "8.10.1-1", "/usr/bin/changed", ChecksumMismatch, "sha256"),
		"/etc/curlrc":       pacman("curl", "8.10.1-1", "/etc/curlrc", ChecksumConffile, "sha256"),
		"/usr/bin/ancient":  pacman("ancient", "2:1-1", "/usr/bin/ancient", ChecksumMatch, "md5"),
		"/usr/bin/unlisted": pacman("ancient", "2:1-1", "/usr/bin/unlisted", ChecksumNone, ""),
		"/usr/bin/without":  pacman("without", "1", "/usr/bin/without", ChecksumNone, ""),
		"/usr/bin":          {},
		"/usr/bin/nobody":   {},
	} {
		if diff := cmp.Diff(want, find(t, o, path), cmpopts.IgnoreFields(Owner{}, "SHA256")); diff != "" {
			t.Errorf("%q: %s", path, diff)
		}
	}
	owner, err := Find(t.Context(), o, "/usr/bin/broken")
	if err == nil || !strings.Contains(err.Error(), "mtree of broken") || owner.Package != "broken" || owner.Checksum != ChecksumNone {
		t.Errorf("%+v, %v", owner, err)
	}
	must(t, os.WriteFile(filepath.Join(o.Root, "var/lib/pacman/db.lck"), nil, 0o600))
	if !find(t, o, "/usr/bin/changed").Working {
		t.Error("the lock is not seen")
	}
}

func TestListingThatUnpacksWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	o := arch(t)
	bomb := gzipped(t, strings.Repeat("x", 8<<20)) // one line
	must(t, os.WriteFile(filepath.Join(o.Root, "var/lib/pacman/local/curl-8.10.1-1/mtree"), []byte(bomb), 0o644))
	owner, err := Find(t.Context(), o, "/usr/bin/curl")
	if err == nil || owner.Package != "curl" || owner.Checksum != ChecksumNone {
		t.Errorf("%+v, %v", owner, err)
	}
}
