// Package need gives tests what they need of the machine: rights, programs, a small disk. Where it is missing a test is
// skipped, and says so in the list of [Skip]; with CI set it fails.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Root is for what only root can do; to says what that is: "mount a file system".
func Root(t testing.TB, to string) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "needs root to "+to)
	}
}

// Program gives the path of a program. test/deps.sh installs those that the tests need.
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lack(t, "needs "+name)
	}
	return path
}

// Disk mounts a tmpfs for this test alone, which root must run, and gives its directory. options are mount's: "size=2m".
func Disk(t testing.TB, options string) (directory string) {
	t.Helper()
	Root(t, "mount a file system")
	directory = t.TempDir()
	if err := unix.Mount("picosnitch-test", directory, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a file system of %s: %v", options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(directory, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", directory, err)
		}
	})
	return directory
}

// Have is for anything else: feature says what, have whether it is there.
func Have(t testing.TB, feature string, have bool) {
	t.Helper()
	if !have {
		lack(t, "needs "+feature)
	}
}

func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	Skip(t, what)
}

// Skip skips a test, in CI too, and says why. SKIPPED names a file that gets a line for each: test/run.sh shows it at its
// end, since go test keeps silent about them.
func Skip(t testing.TB, why string) {
	t.Helper()
	if path := os.Getenv("SKIPPED"); path != "" {
		list, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(list, "%s: %s\n", t.Name(), why); err != nil {
			t.Error(err)
		}
		if err := list.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Skip(why)
}
