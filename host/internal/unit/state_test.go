package unit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// tree makes a Finder whose files lie below a directory of the test's own user.
func tree(t *testing.T, files map[string]string) *Finder {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		write(t, filepath.Join(root, path), content)
	}
	f := New(Options{Root: root})
	f.owner = uint32(os.Getuid())
	return f
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

const dockerState = "var/lib/docker/containers/" + id64 + "/config.v2.json"

func TestNamesComeFromTheRuntimesState(t *testing.T) {
	t.Parallel()
	kube := "/kubepods.slice/" + podSlice + "/"
	task := "run/containerd/io.containerd.runtime.v2.task/"
	for name, c := range map[string]struct {
		path, file, content string
		want                *wire.Unit
	}{
		"docker": {
			"/docker/" + id64, dockerState, `{"ID":"` + id64 + `","Name":"/web_1","Config":{"Env":["a=b"]}}`,
			&wire.Unit{Runtime: "docker", Id: id64, Name: "web_1", Source: "cgroup+docker", Verified: true},
		},
		"docker in a slice of another's choice": {
			"/system.slice/" + id64, dockerState, `{"ID":"` + id64 + `","Name":"/job"}`,
			&wire.Unit{Runtime: "docker", Id: id64, Name: "job", Source: "cgroup+docker", Verified: true},
		},
		"containerd for Kubernetes": {
			kube + "cri-containerd-" + id64 + ".scope", task + "k8s.io/" + id64 + "/config.json",
			`{"annotations":{"io.kubernetes.cri.container-name":"nginx","io.kubernetes.cri.sandbox-name":"web-0",` +
				`"io.kubernetes.cri.sandbox-namespace":"shop"}}`,
			&wire.Unit{Runtime: "kubernetes", Id: id64, Name: "shop/web-0/nginx", Source: "cgroup+containerd", Verified: true},
		},
		"a pod's sandbox": {
			kube + "cri-containerd-" + id64 + ".scope", task + "k8s.io/" + id64 + "/config.json",
			`{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"web-0",` +
				`"io.kubernetes.cri.sandbox-namespace":"shop"}}`,
			&wire.Unit{Runtime: "kubernetes", Id: id64, Name: "shop/web-0/(sandbox)", Source: "cgroup+containerd", Verified: true},
		},
		"containerd without a pod's names": {
			kube + "cri-containerd-" + id64 + ".scope", task + "k8s.io/" + id64 + "/config.json", `{"annotations":{}}`,
			&wire.Unit{Runtime: "kubernetes", Id: id64, Name: "pod" + podID, Source: "cgroup+containerd", Verified: true},
		},
		"nerdctl": {
			"/system.slice/nerdctl-" + id64 + ".scope", task + "default/" + id64 + "/config.json", `{"annotations":{"nerdctl/name":"db"}}`,
			&wire.Unit{Runtime: "containerd", Id: id64, Name: "db", Source: "cgroup+containerd", Verified: true},
		},
		"podman": {
			"/machine.slice/libpod-" + id64 + ".scope/container", "var/lib/containers/storage/overlay-containers/containers.json",
			`[{"id":"` + other + `","names":["x"]},{"id":"` + id64 + `","names":["mail"]}]`,
			&wire.Unit{Runtime: "podman", Id: id64, Name: "mail", Source: "cgroup+podman", Verified: true},
		},
		"podman's monitor": {
			"/machine.slice/libpod-conmon-" + id64 + ".scope", "var/lib/containers/storage/overlay-containers/containers.json",
			`[{"id":"` + id64 + `","names":["mail"]}]`,
			&wire.Unit{Runtime: "podman", Id: id64, Name: "mail (monitor)", Source: "cgroup+podman", Verified: true},
		},
		"CRI-O": {
			kube + "crio-" + id64 + ".scope", "run/containers/storage/overlay-containers/" + id64 + "/userdata/config.json",
			`{"annotations":{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"p","io.kubernetes.pod.namespace":"n"}}`,
			&wire.Unit{Runtime: "kubernetes", Id: id64, Name: "n/p/app", Source: "cgroup+crio", Verified: true},
		},
		"runc with a name of its own": {
			"/system.slice/lab1/inner", "run/runc/lab1/state.json", `{"id":"lab1","cgroup_paths":{"":"/sys/fs/cgroup/system.slice/lab1"}}`,
			&wire.Unit{Runtime: "runc", Id: "lab1", Source: "cgroup+runc", Verified: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := tree(t, map[string]string{c.file: c.content})
			check(t, f.Find(c.path, Facts{}), c.want)
			if u := f.Find(c.path, Facts{}); u != f.Find(c.path, Facts{}) {
				t.Error("a known answer was made anew")
			}
		})
	}
}

func TestStateGivesNoName(t *testing.T) {
	t.Parallel()
	good := `{"ID":"` + id64 + `","Name":"/web"}`
	for name, c := range map[string]struct {
		content string
		spoil   func(path string) error
	}{
		"of another container":   {content: `{"ID":"` + other + `","Name":"/web"}`},
		"that is no JSON":        {content: `{"ID":"` + id64 + `","Name":"/web"`},
		"of the wrong type":      {content: `{"ID":"` + id64 + `","Name":["web"]}`},
		"that a terminal obeys":  {content: `{"ID":"` + id64 + `","Name":"/\u001b[2Jweb"}`},
		"that looks like a user": {content: `{"ID":"` + id64 + `","Name":"/user 0: web"}`},
		"that is too long":       {content: `{"ID":"` + id64 + `","Name":"/` + strings.Repeat("a", 256) + `"}`},
		"too deep":               {content: `{"a":` + strings.Repeat("[", 200_000)},
		"too large":              {content: good + strings.Repeat(" ", maxContainerState)},
		"others may write":       {good, func(p string) error { return os.Chmod(p, 0o666) }},
		"with a second name":     {good, func(p string) error { return os.Link(p, p+"2") }},
		"behind a link": {good, func(p string) error {
			if err := os.Rename(p, p+"2"); err != nil {
				return err
			}
			return os.Symlink(p+"2", p)
		}},
		"in a linked directory": {good, func(p string) error {
			dir := filepath.Dir(p)
			if err := os.Rename(dir, dir+"2"); err != nil {
				return err
			}
			return os.Symlink(dir+"2", dir)
		}},
		"from a pipe": {good, func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return unix.Mkfifo(p, 0o600)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := tree(t, map[string]string{dockerState: c.content})
			if c.spoil != nil {
				if err := c.spoil(filepath.Join(f.options.Root, dockerState)); err != nil {
					t.Fatal(err)
				}
			}
			u := f.Find("/docker/"+id64, Facts{})
			u.Source = "cgroup" // it says whether there was state at all
			check(t, u, unitOf("docker", id64, "", true))
		})
	}
}

func TestAnotherUsersStateGivesNoName(t *testing.T) {
	t.Parallel()
	f := tree(t, map[string]string{dockerState: `{"ID":"` + id64 + `","Name":"/web"}`})
	f.owner++
	check(t, f.Find("/docker/"+id64, Facts{}), unitOf("docker", id64, "", true))
}

func TestAForgedIDDoesNotBorrowAName(t *testing.T) {
	t.Parallel()
	f := tree(t, map[string]string{dockerState: `{"ID":"` + id64 + `","Name":"/web"}`})
	path := "/user.slice/user-1000.slice/user@1000.service/docker-" + id64 + ".scope"
	f.Find("/system.slice/docker-"+id64+".scope", Facts{}) // now in the cache
	check(t, f.Find(path, Facts{}), unitOf("docker", "user 1000: "+id64, "", false))
}

func TestANameThatComesLaterIsFound(t *testing.T) {
	t.Parallel()
	f := tree(t, nil)
	now := time.Unix(1, 0)
	f.options.Now = func() time.Time { return now }
	check(t, f.Find("/docker/"+id64, Facts{}), unitOf("docker", id64, "", true))
	write(t, filepath.Join(f.options.Root, dockerState), `{"ID":"`+id64+`","Name":"/web"}`)
	now = now.Add(nameless + 1)
	want := unitOf("docker", id64, "web", true)
	want.Source = "cgroup+docker"
	check(t, f.Find("/docker/"+id64, Facts{}), want)
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	f := tree(t, nil)
	f.options.MaxEntries = 10
	for i := range 1000 {
		f.Find("/system.slice/a"+strings.Repeat("b", i%200)+".service", Facts{})
		f.Find("/user.slice/user-1.slice/"+strings.Repeat("c", 1+i%200)+".scope", Facts{})
	}
	if len(f.cache) > 10 {
		t.Errorf("%d entries", len(f.cache))
	}
}

func TestOwnersOfCgroupsDecide(t *testing.T) {
	t.Parallel()
	need.Root(t, "give directories away")
	mount := t.TempDir()
	for path, uid := range map[string]int{
		"games": 0, "mine": 1000, "system.slice": 0, "system.slice/dead.service": 1000, "system.slice/web.service": 0,
		"mine/deep": 0,
	} {
		dir := filepath.Join(mount, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, uid, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(mount, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(mount, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	f := New(Options{Root: t.TempDir(), CgroupRoot: mount})
	docker := "/docker-" + id64 + ".scope"
	for path, want := range map[string]*wire.Unit{
		"/games" + docker:                     unitOf("docker", id64, "", true),
		"/mine" + docker:                      unitOf("docker", "user 1000: "+id64, "", false),
		"/mine/deep" + docker:                 unitOf("docker", "user 1000: "+id64, "", false),
		"/open" + docker:                      unitOf("docker", "claimed: "+id64, "", false),
		"/gone" + docker:                      unitOf("docker", "claimed: "+id64, "", false),
		"/lxc.payload.deb":                    unitOf("lxc", "deb", "", true),
		"/lxc.payload.deb/system.slice/x":     unitOf("lxc", "deb", "", true),
		"/lxc.monitor.deb":                    unitOf("lxc", "deb", "(monitor)", true),
		"/" + id64:                            unitOf("runc", id64, "", true),
		"/system.slice" + docker:              unitOf("docker", id64, "", true),
		"/system.slice/dead.service" + docker: unitOf("systemd", "dead.service", "dead.service", true),
		// What Podman makes of a service of the system's.
		"/system.slice/web.service/libpod-payload-" + id64: unitOf("podman", id64, "", true),
	} {
		t.Run(path, func(t *testing.T) { check(t, f.Find(path, Facts{}), want) })
	}
}
