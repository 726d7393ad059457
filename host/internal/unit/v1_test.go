package unit

import (
	"path/filepath"
	"testing"
)

func TestOneHierarchyIsChosen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lines, controllers, path string }{
		"v2 alone":         {"0::/system.slice/a.service\n", "", ""},
		"nothing":          {"", "", ""},
		"all at the root":  {"2:memory:/\n1:name=systemd:/\n0::/\n", "", ""},
		"systemd first":    {"9:memory:/docker/a\n1:name=systemd:/docker/b\n", "name=systemd", "/docker/b"},
		"memory":           {"9:name=systemd:/\n4:memory:/docker/a\n", "memory", "/docker/a"},
		"any":              {"9:name=systemd:/\n4:cpu,cpuacct:/docker/a\n", "cpu,cpuacct", "/docker/a"},
		"colons in a name": {"4:memory:/a.slice:cri:b\n", "memory", "/a.slice:cri:b"},
		"garbage":          {"4\n:\n::\nmemory:/x\n4:memory\n4:memory:x\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			controllers, path := hierarchy(c.lines)
			if controllers != c.controllers || path != c.path {
				t.Errorf("got %q %q", controllers, path)
			}
		})
	}
}

func TestV1IsAskedWhereV2SaysNothing(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	write(t, filepath.Join(proc, "77/cgroup"), "4:memory:/docker/"+id64+"\n1:name=systemd:/\n0::/\n")
	write(t, filepath.Join(proc, "77/stat"), "77 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234 20\n")
	f := New(Options{Root: t.TempDir(), V1: V1(proc, "/nowhere")})
	want := unitOf("docker", id64, "", true)
	want.Source = "cgroup1"
	for _, path := range []string{"", "/"} {
		check(t, f.Find(path, Facts{Pid: 77}), want)
		check(t, f.Find(path, Facts{Pid: 77, Start: 12_345_678_901}), want)
	}
	check(t, f.Find("/", Facts{Pid: 77, Start: 12_355_678_901}), nil) // the pid is another's since
	check(t, f.Find("/", Facts{Pid: 78}), nil)
	check(t, f.Find("/", Facts{}), nil)
	check(t, f.Find("/init.scope", Facts{Pid: 77}), unitOf("systemd", "init.scope", "init.scope", true))
}

func TestThisProcessIsItsOwnInstance(t *testing.T) {
	t.Parallel()
	if isInstance("/proc/self", 1) || !isInstance("/proc/self", 0) {
		t.Error("start times are not compared")
	}
	if isInstance(filepath.Join("/proc", "0"), 1) || !isInstance("/proc/1", startOf(t, "/proc/1")) {
		t.Error("the start time of init is not its own")
	}
}
