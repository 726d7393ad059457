package unit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// startOf gives a process's start in the kernel's resolution of /proc.
func startOf(t *testing.T, dir string) int64 {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	began, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return began * (second / ticks)
}

func namespaceOf(t *testing.T, dir string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir+"/ns/mnt", &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

// run starts a command that runs until the test is over.
func run(t *testing.T, command *exec.Cmd) {
	t.Helper()
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
}

func eventually[T any](t *testing.T, what string, get func() (T, bool)) T {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if value, ok := get(); ok {
			return value
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// v2Path is the path that the host would learn from a cgroup's id, "/" where the v2 hierarchy is not used.
func v2Path(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if path, is := strings.CutPrefix(strings.TrimSpace(line), "0::"); is {
			return path
		}
	}
	return ""
}

func cgroupMount() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/unified"
}

func TestARuncContainerIsNamed(t *testing.T) {
	runc := need.Program(t, "runc")
	need.Root(t, "start containers")
	for _, c := range []struct{ id, cgroups string }{
		{"picosnitch-" + strconv.Itoa(os.Getpid()), ""}, // a name of its own: runc's state proves it
		{id64[:60] + "beef", "/picosnitch-test/" + id64[:60] + "beef"},
	} {
		t.Run(c.id, func(t *testing.T) {
			bundle := bundle(t, c.cgroups)
			t.Cleanup(func() {
				exec.Command(runc, "delete", "--force", c.id).Run()
				removeCgroups("picosnitch-test")
			})
			run(t, exec.Command(runc, "run", "--bundle", bundle, c.id))
			pid := eventually(t, "container", func() (int, bool) {
				data, err := os.ReadFile("/run/runc/" + c.id + "/state.json")
				var state struct {
					Pid int `json:"init_process_pid"`
				}
				return state.Pid, err == nil && json.Unmarshal(data, &state) == nil && state.Pid != 0 &&
					readable("/proc/"+strconv.Itoa(state.Pid)+"/exe", "sleep", "busybox")
			})
			dir := "/proc/" + strconv.Itoa(pid)
			f := New(Options{CgroupRoot: cgroupMount(), V1: V1("/proc", "/sys/fs/cgroup")})
			u := f.Find(v2Path(t, pid), Facts{Pid: uint32(pid), Start: startOf(t, dir)})
			t.Logf("v2 path %q: %v", v2Path(t, pid), u)
			if u.GetId() != c.id || u.GetRuntime() != runtimeRunc || !u.GetVerified() {
				t.Errorf("got %v", u)
			}
		})
	}
}

// removeCgroups removes an empty cgroup from all hierarchies.
func removeCgroups(name string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+name) {
		os.Remove(dir)
	}
}

func TestARealCgroupOfAUserIsAClaim(t *testing.T) {
	need.Root(t, "make control groups")
	mount := cgroupMount()
	top := filepath.Join(mount, "picosnitch-unit-"+strconv.Itoa(os.Getpid()))
	forged := filepath.Join(top, "docker-"+id64+".scope")
	for _, dir := range []string{top, forged} {
		err := os.Mkdir(dir, 0o755)
		need.Have(t, fmt.Sprintf("control groups: %v", err), err == nil)
		t.Cleanup(func() { os.Remove(dir) })
	}
	run := exec.Command("sleep", "60")
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Process.Kill()
		run.Wait()
	})
	if err := os.WriteFile(filepath.Join(forged, "cgroup.procs"), []byte(strconv.Itoa(run.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	path := v2Path(t, run.Process.Pid)
	check(t, New(Options{CgroupRoot: mount}).Find(path, Facts{}), unitOf("docker", id64, "", true))
	if err := os.Chown(top, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	check(t, New(Options{CgroupRoot: mount}).Find(path, Facts{}), unitOf("docker", "user 1000: "+id64, "", false))
}

// readable tells whether a link ends in one of the names.
func readable(link string, names ...string) bool {
	target, err := os.Readlink(link)
	for _, name := range names {
		if err == nil && strings.HasSuffix(target, name) {
			return true
		}
	}
	return false
}

// bundle makes a container that sleeps, with the host's own programs read-only.
func bundle(t *testing.T, cgroups string) string {
	t.Helper()
	dir := t.TempDir()
	mounts := []map[string]any{{"destination": "/proc", "type": "proc", "source": "proc"}}
	for _, d := range []string{"usr", "lib", "lib64", "bin", "proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"/usr", "/lib", "/lib64", "/bin"} {
		if _, err := os.Stat(d); err == nil {
			mounts = append(mounts, map[string]any{"destination": d, "type": "bind", "source": d, "options": []string{"rbind", "ro"}})
		}
	}
	config := map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{"user": map[string]int{"uid": 0, "gid": 0}, "cwd": "/",
			"args": []string{"sleep", "60"}, "env": []string{"PATH=/usr/bin:/bin"}},
		"root": map[string]any{"path": "rootfs"}, "mounts": mounts,
		"linux": map[string]any{"cgroupsPath": cgroups, "namespaces": []map[string]string{{"type": "pid"}, {"type": "mount"}}},
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(data))
	return dir
}

func TestABubblewrapSandboxIsAClaim(t *testing.T) {
	bwrap := need.Program(t, "bwrap")
	need.Root(t, "start containers")
	for _, c := range []struct {
		name, info, id string
	}{
		{"flatpak", "[Application]\nname=org.example.Web\nruntime=runtime/x\n\n[Instance]\nname=no\n", "user 1000: org.example.Web"},
		{"no application", "[Runtime]\nname=org.example.Web\n", ""},
		{"hostile", "[Application]\nname=\x1b[2J\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := filepath.Join(t.TempDir(), "info")
			write(t, info, c.info)
			file, err := os.Open(info)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			command := exec.Command(bwrap, "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
				"--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--ro-bind-data", "3", "/.flatpak-info", "sleep", "60")
			command.ExtraFiles = []*os.File{file}
			run(t, command)
			dir := eventually(t, "sandbox", func() (string, bool) { return childOf(command.Process.Pid, "sleep") })
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			f := New(Options{HostMountNS: namespaceOf(t, "/proc/self")})
			facts := Facts{Pid: uint32(pid), Start: startOf(t, dir), UID: 1000, Exe: "/usr/bin/sleep", MountNS: namespaceOf(t, dir)}
			u := f.Find("/", facts)
			if u.GetId() != c.id || u.GetVerified() {
				t.Errorf("got %v", u)
			}
			check(t, f.Find("/system.slice/a.service", facts), unitOf("systemd", "a.service", "a.service", true))
			facts.Start += second
			check(t, f.Find("/", facts), nil)
		})
	}
}

// childOf finds the sandboxed process: bwrap itself or a child of it that runs the program.
func childOf(pid int, program string) (string, bool) {
	own := "/proc/" + strconv.Itoa(pid)
	if readable(own+"/exe", program, "coreutils") {
		return own, true
	}
	children, err := os.ReadFile(own + "/task/" + strconv.Itoa(pid) + "/children")
	for child := range strings.FieldsSeq(string(children)) {
		if dir := "/proc/" + child; err == nil && readable(dir+"/exe", program, "coreutils") {
			return dir, true
		}
	}
	return "", false
}

func TestSnapsAreToldByTheirPath(t *testing.T) {
	t.Parallel()
	f := New(Options{HostMountNS: 1})
	want := unitOf("snap", "user 1000: firefox", "", false)
	want.Source = "path"
	check(t, f.Find("/", Facts{UID: 1000, MountNS: 2, Exe: "/snap/firefox/1/usr/lib/firefox"}), want)
	check(t, f.Find("/", Facts{UID: 1000, MountNS: 1, Exe: "/snap/firefox/1/usr/lib/firefox"}), nil)
	check(t, f.Find("/", Facts{UID: 1000, MountNS: 2, Exe: "/snap/fire\nfox/1/x"}), nil)
	check(t, f.Find("/system.slice/a.service", Facts{MountNS: 2, Exe: "/snap/firefox/1/x"}), unitOf("systemd", "a.service", "a.service", true))
}
