package packages

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

const status = `Package: curl
Status: install ok installed
Architecture: amd64
Version: 7.88.1-10
Description: transfer
 Package: nobody

Package: curlx
Status: install ok installed
Version: 9

Package: libfoo
Status: deinstall ok config-files
Architecture: i386
Version: 0.9

Package: libfoo
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 1:2.0
Conffiles:
 /etc/init.d/foo 00000000000000000000000000000000
 /etc/my foo.conf %s obsolete

Package: shadowed
Status: install ok installed
Version: 3

Package: diverter
Status: install ok installed
Version: 4

Package: removed
Status: deinstall ok config-files
Version: 1
`

// debian is a small merged system.
func debian(t *testing.T) Options {
	t.Helper()
	return tree(t, map[string]string{
		"bin@": "usr/bin", "lib64@": "usr/lib64", "usr/sbin@": "bin", "sbin@": "usr/sbin",
		"var/lib/dpkg/status":                   fmt.Sprintf(status, md5sum("conf")),
		"var/lib/dpkg/info/curl.list":           "/.\n/usr\n/usr/bin\n/usr/bin/curl\n/usr/bin/edited\n/usr/bin/unsummed\n/usr/bin/caf\xff e\n",
		"var/lib/dpkg/info/curl.md5sums":        md5sum("curl") + "  usr/bin/curl\n" + md5sum("x") + "  usr/bin/edited\n" + strings.ToUpper(md5sum("odd")) + "  usr/bin/caf\xff e\n",
		"var/lib/dpkg/info/curlx.list":          "/usr/bin/own/usr/bin/own\n/usr/bin/curl2\n/bin/old\n/sbin/older\n/usr/lib64/ld.so\n",
		"var/lib/dpkg/info/curlx.md5sums":       md5sum("old") + "  bin/old\n" + md5sum("older") + "  sbin/older\n",
		"var/lib/dpkg/info/libfoo:amd64.list":   "/etc/init.d/foo\n/etc/my foo.conf\n/usr/lib/libfoo.so",
		"var/lib/dpkg/info/shadowed.list":       "/usr/bin/tool\n/usr/bin/mine\n",
		"var/lib/dpkg/info/shadowed.md5sums":    md5sum("original") + "  usr/bin/tool\n" + md5sum("mine") + "  usr/bin/mine\n",
		"var/lib/dpkg/info/diverter.list":       "/usr/bin/tool\n",
		"var/lib/dpkg/info/diverter.md5sums":    md5sum("replacement") + "  usr/bin/tool\n",
		"var/lib/dpkg/info/removed.list":        "/usr/bin/left\n",
		"var/lib/dpkg/diversions":               "/usr/bin/tool\n/usr/bin/tool.real\ndiverter\n/usr/bin/mine\n/usr/bin/mine.real\n:\n",
		"usr/bin/curl":                          "curl",
		"usr/bin/caf\xff e":                     "odd",
		"usr/bin/edited":                        "y",
		"usr/bin/unsummed":                      "z",
		"usr/bin/old":                           "old",
		"usr/bin/older":                         "older",
		"etc/init.d/foo":                        "edited",
		"etc/my foo.conf":                       "conf",
		"usr/bin/tool":                          "replacement",
		"usr/bin/tool.real":                     "original",
		"usr/bin/mine":                          "administrator's",
		"usr/bin/mine.real":                     "mine",
		"usr/bin/left":                          "left",
		"usr/bin/own":                           "own",
		"var/lib/dpkg/info/curl.list.dpkg-temp": "/usr/bin/own\n",
	})
}

func TestDpkgOwnersOfAMergedAndDivertedSystem(t *testing.T) {
	t.Parallel()
	o := debian(t)
	dpkg := func(name, version, path string, c Checksum) Owner {
		return Owner{Manager: "dpkg", Package: name, Version: version, Path: path, Checksum: c, Algorithm: "md5"}
	}
	unsummed := dpkg("curl", "7.88.1-10", "/usr/bin/unsummed", ChecksumNone)
	unsummed.Algorithm = ""
	for path, want := range map[string]Owner{
		"/usr/bin/curl":      dpkg("curl", "7.88.1-10", "/usr/bin/curl", ChecksumMatch),
		"/bin/curl":          dpkg("curl", "7.88.1-10", "/usr/bin/curl", ChecksumMatch),
		"/sbin/curl":         dpkg("curl", "7.88.1-10", "/usr/bin/curl", ChecksumMatch),
		"/usr/bin/caf\xff e": dpkg("curl", "7.88.1-10", "/usr/bin/caf\xff e", ChecksumMatch),
		"/usr/bin/edited":    dpkg("curl", "7.88.1-10", "/usr/bin/edited", ChecksumMismatch),
		"/usr/bin/unsummed":  unsummed,
		"/usr/bin/old":       dpkg("curlx", "9", "/bin/old", ChecksumMatch),
		"/usr/bin/older":     dpkg("curlx", "9", "/sbin/older", ChecksumMatch),
		"/etc/init.d/foo":    dpkg("libfoo:amd64", "1:2.0", "/etc/init.d/foo", ChecksumConffile),
		"/etc/my foo.conf":   dpkg("libfoo:amd64", "1:2.0", "/etc/my foo.conf", ChecksumMatch),
		"/usr/bin/tool":      dpkg("diverter", "4", "/usr/bin/tool", ChecksumMatch),
		"/usr/bin/tool.real": dpkg("shadowed", "3", "/usr/bin/tool", ChecksumMatch),
		"/usr/bin/mine":      {},
		"/usr/bin/mine.real": dpkg("shadowed", "3", "/usr/bin/mine", ChecksumMatch),
		"/usr/bin/left":      {},
		"/usr/bin/own":       {},
		"/usr/bin/cur":       {},
		"/usr/bin/curl/":     {Manager: "refused"},
		"/usr/bin/../bin/x":  {Manager: "refused"},
		"/a\n/usr/bin/curl":  {Manager: "refused"},
		"usr/bin/curl":       {Manager: "refused"},
	} {
		got, err := Find(t.Context(), o, path)
		if refused := want.Manager == "refused"; refused != errors.Is(err, ErrPath) || !refused && err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		} else if refused {
			want = Owner{}
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Owner{}, "SHA256")); diff != "" {
			t.Errorf("%q: %s", path, diff)
		}
		if hashed := got.Algorithm != ""; hashed != (len(got.SHA256) == sha256.Size) {
			t.Errorf("%q: SHA-256 of %d bytes", path, len(got.SHA256))
		}
	}
}

func TestFileThatCannotBeReadWholeIsNotCalledChanged(t *testing.T) {
	t.Parallel()
	o := debian(t)
	o.MaxBytes = 3
	if owner := find(t, o, "/usr/bin/curl"); owner.Checksum != ChecksumUnread || owner.SHA256 != nil {
		t.Errorf("%+v", owner)
	}
	o.MaxBytes = 1 << 20
	must(t, os.Remove(filepath.Join(o.Root, "usr/bin/curl")))
	if owner := find(t, o, "/usr/bin/curl"); owner.Checksum != ChecksumUnread {
		t.Errorf("%+v", owner)
	}
	must(t, unix.Mkfifo(filepath.Join(o.Root, "usr/bin/curl"), 0o644))
	if owner := find(t, o, "/usr/bin/curl"); owner.Checksum != ChecksumUnread {
		t.Errorf("%+v", owner)
	}
}

func TestPackageManagerAtWorkIsTold(t *testing.T) {
	t.Parallel()
	o := debian(t)
	lock := filepath.Join(o.Root, "var/lib/dpkg/lock")
	must(t, os.WriteFile(lock, nil, 0o640))
	if find(t, o, "/usr/bin/edited").Working {
		t.Error("nobody holds the lock")
	}
	file, err := os.OpenFile(lock, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	o.Locks = "/proc/locks"
	must(t, unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	for _, path := range []string{"/usr/bin/edited", "/usr/bin/own"} {
		if owner := find(t, o, path); !owner.Working || !strings.HasSuffix(owner.Words(), "the package manager is at work") {
			t.Errorf("%s: %+v", path, owner)
		}
	}
}

func TestDatabaseThatOthersCouldWriteIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dpkg string) error{
		"directory": func(dpkg string) error { return os.Chmod(dpkg, 0o777) },
		"info":      func(dpkg string) error { return os.Chmod(dpkg+"/info", 0o777) },
		"list":      func(dpkg string) error { return os.Chmod(dpkg+"/info/curl.list", 0o666) },
		"status":    func(dpkg string) error { return os.Chmod(dpkg+"/status", 0o666) },
		"owner":     func(dpkg string) error { return os.Chown(dpkg+"/info/curl.list", 51300, 51300) },
		"group": func(dpkg string) error {
			return errors.Join(os.Chown(dpkg+"/info", 0, 51300), os.Chmod(dpkg+"/info", 0o775))
		},
		"pipe": func(dpkg string) error {
			return errors.Join(os.Remove(dpkg+"/info/curl.list"), unix.Mkfifo(dpkg+"/info/curl.list", 0o644))
		},
	} {
		o := debian(t)
		must(t, spoil(filepath.Join(o.Root, "var/lib/dpkg")))
		if owner, err := Find(t.Context(), o, "/usr/bin/curl"); !errors.Is(err, ErrUntrusted) || owner.Owned() {
			t.Errorf("%s: %+v, %v", name, owner, err)
		}
	}
	o := debian(t)
	list := filepath.Join(o.Root, "var/lib/dpkg/info/curl.list")
	must(t, os.Rename(list, list+"2"))
	must(t, os.Symlink(list+"2", list))
	if owner, err := Find(t.Context(), o, "/usr/bin/curl"); !errors.Is(err, unix.ELOOP) || owner.Owned() {
		t.Errorf("link: %+v, %v", owner, err)
	}
}

func TestAnswersAgreeWithDpkgItself(t *testing.T) {
	t.Parallel()
	need.Program(t, "dpkg-query")
	entries, err := os.ReadDir("/usr/bin")
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() && len(names) < 200 {
			names = append(names, entry.Name())
		}
	}
	want, diverted := dpkgSays(t, names)
	matches := 0
	for _, name := range names {
		got := find(t, Options{MaxBytes: 256 << 20, RPM: "/nonexistent"}, "/usr/bin/"+name)
		if said, ok := want[name]; !slices.Contains(diverted, name) && (ok != got.Owned() || said != got.Package) {
			t.Errorf("%s: %q, dpkg says %q", name, got.Package, said)
		}
		if got.Checksum == ChecksumMatch {
			matches++
		}
	}
	if len(names) < 20 || matches < len(names)/2 {
		t.Errorf("%d checked, %d of them match", len(names), matches)
	}
}

// dpkgSays gives owners by name. Each is asked for by both its paths, since dpkg knows nothing of merged directories. Of
// diverted files it tells no owner.
func dpkgSays(t *testing.T, names []string) (owners map[string]string, diverted []string) {
	t.Helper()
	args := []string{"-S"}
	for _, name := range names {
		args = append(args, "/usr/bin/"+name, "/bin/"+name)
	}
	out, _ := exec.CommandContext(t.Context(), "dpkg-query", args...).Output() // fails since it does not know them all
	owners = map[string]string{}
	for line := range strings.Lines(string(out)) {
		who, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if strings.HasPrefix(who, "diversion by ") {
			diverted = append(diverted, filepath.Base(path))
		}
		owners[filepath.Base(path)] = who
	}
	for _, name := range diverted {
		delete(owners, name)
	}
	return owners, diverted
}

// BenchmarkFind looks a file up among 2,000 packages of 100 files, which is a desktop.
func BenchmarkFind(b *testing.B) {
	root := b.TempDir()
	info := filepath.Join(root, "var/lib/dpkg/info")
	if err := os.MkdirAll(info, 0o755); err != nil {
		b.Fatal(err)
	}
	var status strings.Builder
	for i := range 2000 {
		name := fmt.Sprintf("package-%d", i)
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nVersion: 1\nDescription: %s\n\n", name, strings.Repeat("words ", 100))
		var list strings.Builder
		for file := range 100 {
			fmt.Fprintf(&list, "/usr/share/doc/%s/some/directory/file-%d\n", name, file)
		}
		fmt.Fprintf(&list, "/usr/bin/program-%d\n", i)
		if err := os.WriteFile(filepath.Join(info, name+".list"), []byte(list.String()), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), []byte(status.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	o := Options{Root: root, Trust: uint32(os.Geteuid()), RPM: "/nonexistent", MaxBytes: 1 << 20}
	for b.Loop() {
		if owner, err := Find(b.Context(), o, "/usr/bin/program-1234"); err != nil || owner.Package != "package-1234" {
			b.Fatalf("%+v, %v", owner, err)
		}
	}
}
