package packages

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/picosnitch/picosnitch/test/need"
)

const spec = `Name: picotool
Version: 1.2
Release: 3
Epoch: 4
Summary: a test
License: none
BuildArch: noarch
%description
A test.
%install
mkdir -p "%{buildroot}ROOT/usr/bin"
cd "%{buildroot}ROOT/usr/bin"
printf tool > tool
printf conf > tool.conf
printf odd > "a  b"
%files
"ROOT/usr/bin/tool"
"ROOT/usr/bin/a  b"
%config "ROOT/usr/bin/tool.conf"
`

// redHat installs a package into a database of its own. The files lie in dir.
func redHat(t *testing.T) (o Options, dir string) {
	t.Helper()
	need.Program(t, "rpmbuild")
	root := t.TempDir()
	data := filepath.Join(root, "db")
	file := filepath.Join(root, "spec")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(spec, "ROOT", root)), 0o644))
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	run("rpmbuild", "-bb", "--define", "_topdir "+root+"/top", "--dbpath", data, file)
	run("rpm", "--dbpath", data, "--install", "--nodeps", root+"/top/RPMS/noarch/picotool-1.2-3.noarch.rpm")
	return Options{Root: "/", RPMData: data, MaxBytes: 1 << 20}, root + "/usr/bin/"
}

func TestRPMOwners(t *testing.T) {
	t.Parallel()
	o, dir := redHat(t)
	must(t, os.WriteFile(dir+"own is not owned by any package", []byte("x"), 0o755))
	rpm := func(name string, c Checksum) Owner {
		return Owner{Manager: "rpm", Package: "picotool", Version: "4:1.2-3", Path: dir + name, Checksum: c, Algorithm: "sha256"}
	}
	// Somebody may install something on this machine meanwhile.
	unasked := cmpopts.IgnoreFields(Owner{}, "SHA256", "Working")
	check := func(name string, want Owner) {
		t.Helper()
		if diff := cmp.Diff(want, find(t, o, dir+name), unasked); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
	check("tool", rpm("tool", ChecksumMatch))
	check("a  b", rpm("a  b", ChecksumMatch))
	check("tool.conf", rpm("tool.conf", ChecksumMatch))
	check("own is not owned by any package", Owner{})
	check("nothing", Owner{})
	check("--all", Owner{})
	for _, name := range []string{"tool", "tool.conf"} {
		must(t, os.WriteFile(dir+name, []byte("changed"), 0o755))
	}
	check("tool", rpm("tool", ChecksumMismatch))
	check("tool.conf", rpm("tool.conf", ChecksumConffile))
	must(t, os.Remove(dir+"tool"))
	check("tool", rpm("tool", ChecksumUnread))
}

func TestRPMThatFailsIsAnErrorInWords(t *testing.T) {
	t.Parallel()
	o, dir := redHat(t)
	must(t, os.WriteFile(filepath.Join(o.RPMData, "rpmdb.sqlite"), []byte("no database"), 0o644))
	owner, err := Find(t.Context(), o, dir+"tool")
	if err == nil || !strings.Contains(err.Error(), "ask rpm: exit status") || owner.Owned() {
		t.Errorf("%+v, %v", owner, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, o, dir+"tool"); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
	must(t, os.WriteFile(o.RPMData+"/rpm", []byte("#!/bin/sh"), 0o755))
	o.RPM = o.RPMData + "/rpm"
	must(t, os.Chmod(o.RPM, 0o777))
	if _, err := Find(t.Context(), o, dir+"tool"); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a program that anybody can replace: %v", err)
	}
}
