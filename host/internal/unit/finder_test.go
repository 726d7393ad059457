package unit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	id64  = "3f4a1c0d9be27788aa55cc33ee11ff00123456789abcdef0123456789abcdef0"
	other = "0000000000000000000000000000000000000000000000000000000000000001"
	podID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
)

var podSlice = "kubepods-burstable-pod" + strings.ReplaceAll(podID, "-", "_") + ".slice"

func unitOf(runtime, id, name string, verified bool) *wire.Unit {
	return &wire.Unit{Runtime: runtime, Id: id, Name: name, Source: "cgroup", Verified: verified}
}

func check(t *testing.T, got, want *wire.Unit) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("unit (-want +got):\n%s", diff)
	}
}

func TestPathsOfTheWorldAreRead(t *testing.T) {
	t.Parallel()
	find := New(Options{Root: t.TempDir()})
	kube := func(name string) *wire.Unit { return unitOf("kubernetes", id64, name, true) }
	user := "/user.slice/user-1000.slice/user@1000.service/"
	for path, want := range map[string]*wire.Unit{
		"":                                     nil,
		"/":                                    nil,
		"/init.scope":                          unitOf("systemd", "init.scope", "init.scope", true),
		"/system.slice/cron.service":           unitOf("systemd", "cron.service", "cron.service", true),
		"/system.slice/cron.service (deleted)": unitOf("systemd", "cron.service", "cron.service", true),
		"/system.slice/system-getty.slice/getty@tty1.service":                                              unitOf("systemd", "getty@tty1.service", "getty@tty1.service", true),
		"/system.slice/run-rf3a.scope":                                                                     unitOf("systemd", "run-rf3a.scope", "run-rf3a.scope", true),
		`/system.slice/system-a\x2db.slice/a\x2db@1.service`:                                               unitOf("systemd", `a\\x2db@1.service`, "a-b@1.service", true),
		"/system.slice/_cpu.service":                                                                       unitOf("systemd", "cpu.service", "cpu.service", true),
		"/system.slice/foo.service/workers/3":                                                              unitOf("systemd", "foo.service", "foo.service", true),
		"/system.slice":                                                                                    unitOf("systemd", "system.slice", "system.slice", true),
		"/system.slice/docker-" + id64 + ".scope":                                                          unitOf("docker", id64, "", true),
		"/system.slice/docker-" + id64 + ".scope/init/cron.service":                                        unitOf("docker", id64, "", true),
		"/docker/" + id64:                                                                                  unitOf("docker", id64, "", true),
		"/docker/" + id64 + "/docker/" + other:                                                             unitOf("docker", id64, "", true),
		"/machine.slice/libpod-" + id64 + ".scope/container":                                               unitOf("podman", id64, "", true),
		"/machine.slice/libpod-conmon-" + id64 + ".scope":                                                  unitOf("podman", id64, "(monitor)", true),
		"/machine.slice/machine-libpod_pod_1.slice/libpod-" + id64:                                         unitOf("podman", id64, "", true),
		"/system.slice/nerdctl-" + id64 + ".scope":                                                         unitOf("containerd", id64, "", true),
		"/system.slice/runc-web.scope":                                                                     unitOf("runc", "web", "", true),
		"/kubepods.slice/kubepods-burstable.slice/" + podSlice + "/cri-containerd-" + id64 + ".scope":      kube("pod" + podID),
		"/kubepods.slice/kubepods-burstable.slice/" + podSlice + "/crio-" + id64 + ".scope/container":      kube("pod" + podID),
		"/kubepods.slice/kubepods-burstable.slice/" + podSlice + "/docker-" + id64 + ".scope":              kube("pod" + podID),
		"/kubepods.slice/kubepods-burstable.slice/" + podSlice + ":cri-containerd:" + id64:                 kube("pod" + podID),
		"/kubepods/burstable/pod" + podID + "/" + id64:                                                     kube("pod" + podID),
		"/kubepods/pod" + strings.Repeat("a", 32) + "/crio-" + id64:                                        kube("pod" + strings.Repeat("a", 32)),
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-" + podSlice + "/cri-containerd-" + id64 + ".scope": kube("pod" + podID),
		"/kubepods.slice/kubepods-burstable.slice/" + podSlice:                                             unitOf("kubernetes", "pod"+podID, "", true),
		`/machine.slice/machine-deb\x2d12.scope`:                                                           unitOf("machine", "deb-12", "", true),
		"/machine.slice/systemd-nspawn@deb.service/payload/init.scope":                                     unitOf("nspawn", "deb", "", true),
		"/system.slice/snap.lxd.daemon.service":                                                            unitOf("snap", "lxd", "lxd.daemon", true),

		"/user.slice": unitOf("systemd", "user 0: user.slice", "user 0: user.slice", false),
		"/user.slice/user-1000.slice/session-3.scope":                 unitOf("systemd", "user 1000: session-3.scope", "user 1000: session-3.scope", false),
		user + "init.scope":                                           unitOf("systemd", "user 1000: init.scope", "user 1000: init.scope", false),
		user + `app.slice/app-gnome-org.a\x2db-12.scope`:              unitOf("systemd", `user 1000: app-gnome-org.a\\x2db-12.scope`, "user 1000: app-gnome-org.a-b-12.scope", false),
		user + "app.slice/app-flatpak-org.mozilla.firefox-4711.scope": unitOf("flatpak", "user 1000: org.mozilla.firefox", "", false),
		user + "app.slice/snap.firefox.firefox-" + podID + ".scope":   unitOf("snap", "user 1000: firefox", "user 1000: firefox.firefox", false),
		user + "app.slice/snap.firefox.firefox." + podID + ".scope":   unitOf("snap", "user 1000: firefox", "user 1000: firefox.firefox", false),
		user + "user.slice/libpod-" + id64 + ".scope/container":       unitOf("podman", "user 1000: "+id64, "", false),
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			check(t, find.Find(path, Facts{}), want)
		})
	}
}

func TestForgedPathsAreClaims(t *testing.T) {
	t.Parallel()
	find := New(Options{Root: t.TempDir()})
	user := "/user.slice/user-1000.slice/user@1000.service/"
	for path, want := range map[string]*wire.Unit{
		user + "app.slice/docker-" + id64 + ".scope":     unitOf("docker", "user 1000: "+id64, "", false),
		user + "user@0.service/system.slice/ssh.service": unitOf("systemd", "user 1000: ssh.service", "user 1000: ssh.service", false),
		user + "kubepods/pod" + podID + "/" + id64:       unitOf("kubernetes", "user 1000: "+id64, "user 1000: pod"+podID, false),
		user + "a\n\x1b[31m\xff.service":                 unitOf("systemd", `user 1000: a\x0a\x1b[31m\xff.service`, `user 1000: a\x0a\x1b[31m\xff.service`, false),
		user + `a\x0ab.scope`:                            unitOf("systemd", `user 1000: a\\x0ab.scope`, `user 1000: a\x0ab.scope`, false),
		"/user/bob/0/docker/" + id64:                     unitOf("docker", "claimed: "+id64, "", false),
		"/system.slice/user@1000.service/cron.service":   unitOf("systemd", "user 1000: cron.service", "user 1000: cron.service", false),
		// A service that was handed its cgroup may make any below; what is sure is the service.
		"/system.slice/foo.service/docker-" + id64 + ".scope":   unitOf("systemd", "foo.service", "foo.service", true),
		"/system.slice/foo.service/user@0.service/cron.service": unitOf("systemd", "foo.service", "foo.service", true),
		// Nobody's known place, and nothing to ask who owns it.
		"/games/docker-" + id64 + ".scope": unitOf("docker", "claimed: "+id64, "", false),
		"/games/cron.service":              unitOf("systemd", "claimed: cron.service", "claimed: cron.service", false),
		"/games/cs":                        nil,
		"/system.slice/../docker/" + id64:  nil,
		"/system.slice//docker/" + id64:    nil,
		// Not the ids of containers.
		"/system.slice/docker-" + id64[1:] + ".scope":              unitOf("systemd", "docker-"+id64[1:]+".scope", "docker-"+id64[1:]+".scope", true),
		"/system.slice/docker-" + strings.ToUpper(id64) + ".scope": unitOf("systemd", "docker-"+strings.ToUpper(id64)+".scope", "docker-"+strings.ToUpper(id64)+".scope", true),
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			check(t, find.Find(path, Facts{UID: 1000}), want)
		})
	}
}
