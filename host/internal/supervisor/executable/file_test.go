package executable_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/test/need"
)

// place makes a file in a directory that only its owner may write.
func place(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func trustMe() executable.Rules {
	me := uint32(os.Geteuid())
	return executable.Rules{Trust: []uint32{me}, RunAs: me}
}

func refusal(t *testing.T, path string, rules executable.Rules, want string) {
	t.Helper()
	file, err := executable.Open(path, rules)
	if err == nil {
		_ = file.Close()
		t.Fatalf("%s was opened", path)
	}
	if !errors.Is(err, executable.ErrRefused) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want ErrRefused that says %q", err, want)
	}
}

func TestTrustedFileIsOpenedAndHashed(t *testing.T) {
	t.Parallel()
	path := place(t, "plugin", "text", 0o755)
	rules := trustMe()
	sum := sha256.Sum256([]byte("text"))
	rules.SHA256 = strings.ToUpper(hex.EncodeToString(sum[:]))
	file, err := executable.Open(path, rules)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if file.SHA256 != sum || file.Script || file.Path != path {
		t.Errorf("file = %+v", file)
	}
}

func TestScriptIsKnown(t *testing.T) {
	t.Parallel()
	file, err := executable.Open(place(t, "script", "#! /bin/sh -e\ntrue\n", 0o755), trustMe())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if !file.Script {
		t.Error("not known as a script")
	}
}

func TestUntrustedFilesAreRefused(t *testing.T) {
	t.Parallel()
	refusal(t, "bin/plugin", trustMe(), "absolute path")
	refusal(t, "/tmp/../bin/plugin", trustMe(), "absolute path")
	refusal(t, "/nowhere/plugin", trustMe(), "no such file")
	refusal(t, place(t, "plugin", "x", 0o775), trustMe(), "can be written by others")
	refusal(t, place(t, "plugin", "x", 0o644), trustMe(), "cannot be executed")
	refusal(t, place(t, "plugin", "#!relative\n", 0o755), trustMe(), "no absolute path")
	refusal(t, place(t, "plugin", "#!/nowhere/at/all\n", 0o755), trustMe(), "interpreter")

	path := place(t, "plugin", "x", 0o755)
	pinned := trustMe()
	pinned.SHA256 = strings.Repeat("0", 64)
	refusal(t, path, pinned, "the configuration pins")
	foreign := trustMe()
	foreign.RunAs = 4242
	if file, err := executable.Open(path, foreign); err != nil {
		t.Errorf("mode 755 for another uid: %v", err)
	} else {
		_ = file.Close()
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	refusal(t, path, foreign, "cannot be executed by uid 4242")
}

func TestLinksAndOddFilesAreRefused(t *testing.T) {
	t.Parallel()
	path := place(t, "plugin", "x", 0o755)
	dir := filepath.Dir(path)
	for name, target := range map[string]string{"link": path, "up": dir} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	refusal(t, filepath.Join(dir, "link"), trustMe(), "symbolic link")
	refusal(t, filepath.Join(dir, "up", "plugin"), trustMe(), "symbolic link")
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o755); err != nil {
		t.Fatal(err)
	}
	refusal(t, filepath.Join(dir, "fifo"), trustMe(), "regular file")
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	refusal(t, path, trustMe(), "larger than 1024 MiB")
}

func TestDirectoriesAboveCount(t *testing.T) {
	t.Parallel()
	path := place(t, "plugin", "x", 0o755)
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	refusal(t, path, trustMe(), filepath.Dir(path)+" (mode 0777) can be written by others")
}

func TestOwnerOfTheHostIsTrustedBesideItOnly(t *testing.T) {
	t.Parallel()
	need.Root(t, "give files away")
	// t.TempDir lies below a directory of root's, as a checkout in /home does.
	host := place(t, "picosnitch", "host", 0o755)
	dir := filepath.Dir(host)
	plugin := filepath.Join(dir, "plugins", "plugin")
	elsewhere := filepath.Join(dir, "other", "plugin")
	for _, path := range []string{plugin, elsewhere} {
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{dir, host, filepath.Dir(plugin), plugin, filepath.Dir(elsewhere), elsewhere} {
		if err := os.Chown(path, 51900, 51900); err != nil {
			t.Fatal(err)
		}
	}
	rules := executable.Rules{Host: host}
	file, err := executable.Open(plugin, rules)
	if err != nil {
		t.Fatalf("beside the host: %v", err)
	}
	_ = file.Close()
	refusal(t, elsewhere, rules, "not trusted")
	refusal(t, plugin, executable.Rules{}, "not trusted")
	// A group that /etc/group does not know is not known to be private.
	if err := os.Chmod(plugin, 0o775); err != nil {
		t.Fatal(err)
	}
	refusal(t, plugin, rules, "can be written by others")
}

func TestLookSeesChanges(t *testing.T) {
	t.Parallel()
	path := place(t, "plugin", "x", 0o755)
	before := executable.Look(path)
	if before != executable.Look(path) {
		t.Error("changed by itself")
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if before == executable.Look(path) {
		t.Error("chmod was not seen")
	}
	before = executable.Look(path)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "beside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if before != executable.Look(path) {
		t.Error("what lies beside it counts")
	}
	above := filepath.Dir(filepath.Dir(path))
	if err := os.Chmod(above, 0o701); err != nil {
		t.Fatal(err)
	}
	if before == executable.Look(path) {
		t.Errorf("chmod of %s was not seen", above)
	}
	if nothing := executable.Look(path + "x"); nothing.Inode != 0 || nothing == executable.Look(path) {
		t.Error("something is at a path where nothing is")
	}
}
