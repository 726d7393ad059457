package supervisor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

// probeIn starts a plugin that looks around, and returns what it saw.
func probeIn(t *testing.T, uids UIDs, owner process.Owner, change func(*Spec)) (*rig, seen) {
	t.Helper()
	needRoot(t)
	config := tempDir(t, owner) // mode 0700, as ~/.config/picosnitch
	secret := filepath.Join(config, "config.json")
	if err := os.WriteFile(secret, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(testConfig{Probe: true, Secret: "hush", Peek: []string{
		"/etc/shadow", "/etc/passwd", secret, "/etc/localtime", "/var/log", "/proc/kallsyms", "/dev/null", "/granted", "/root"}})
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "probe", Owner: owner, Config: settings, Directory: filepath.Join(config, "probe")}
	if change != nil {
		change(&spec)
	}
	r := run(t, uids, spec)
	r.awaitState(StateRunning)
	text, err := os.ReadFile(filepath.Join(spec.Directory, "probe.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return r, s
}

func TestSandboxTakesAwayWhatAPluginDoesNotNeed(t *testing.T) {
	t.Parallel()
	owner := process.Owner{UID: 51900, GID: 51901}
	r, s := probeIn(t, slot(0), owner, nil)
	status := r.Status()[0]
	if s.UID != int(status.GetUid()) || s.GID != s.UID || s.UID < 61200 || s.UID > 61207 || s.Groups != 0 {
		t.Errorf("uid %d gid %d with %d groups, status says %d", s.UID, s.GID, s.Groups, status.GetUid())
	}
	for key, want := range map[string]string{
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000",
		"CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Umask": "0077",
	} {
		if s.Status[key] != want {
			t.Errorf("%s = %q, want %q", key, s.Status[key], want)
		}
	}
	if s.PID != 1 {
		t.Errorf("pid %d, want 1 of a namespace of its own", s.PID)
	}
	for path, err := range s.Reads {
		allowed := path == "/dev/null" || path == "/etc/localtime"
		if err == "" && !allowed {
			t.Errorf("%s could be read", path)
		}
	}
	if s.Reads["/dev/null"] != "" {
		t.Errorf("/dev/null: %s", s.Reads["/dev/null"])
	}
	if len(s.Interfaces) > 0 {
		t.Errorf("interfaces up: %v", s.Interfaces)
	}
	for _, hidden := range []string{"home", "root", "var", "run", "sys", "boot"} {
		if slices.Contains(s.Entries, hidden) {
			t.Errorf("it sees /%s", hidden)
		}
	}
	if s.WroteRoot {
		t.Error("it wrote outside its directory")
	}
	if !s.Sessions {
		t.Error("it is in the session of the host")
	}
	if s.Comm != filepath.Base(selfPath(t))[:min(15, len(filepath.Base(selfPath(t))))] {
		t.Errorf("comm %q", s.Comm)
	}
}

func TestSandboxInheritsNothing(t *testing.T) {
	t.Parallel()
	_, s := probeIn(t, slot(1), process.Owner{UID: 51900, GID: 51901}, nil)
	for _, variable := range s.Env {
		name, value, _ := strings.Cut(variable, "=")
		if !slices.Contains([]string{"PATH", "TZ", "LANG", "TMPDIR", "GOMEMLIMIT", "GOTRACEBACK", "PICOSNITCH_PLUGIN"}, name) &&
			!strings.HasPrefix(name, "PLUGIN_") {
			t.Errorf("inherited %s", variable)
		}
		if strings.Contains(value, "hush") {
			t.Errorf("a secret is in the environment: %s", name)
		}
	}
	for _, file := range s.Files {
		if !strings.Contains(file, "pipe:") && !strings.Contains(file, "socket:") && !strings.Contains(file, "anon_inode:") &&
			!strings.Contains(file, "/proc/") && !strings.HasSuffix(file, " ") {
			t.Errorf("open descriptor %s", file)
		}
	}
}

func TestFilesBelongToTheOwner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owner process.Owner
		uids  UIDs
	}{
		"a user": {process.Owner{UID: 51900, GID: 51901}, slot(2)},
		"root":   {process.Owner{}, slot(3)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := probeIn(t, c.uids, c.owner, nil)
			if s.UID == 0 || s.UID == int(c.owner.UID) {
				t.Errorf("it runs as uid %d", s.UID)
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(r.dir, "probe.json"), &st); err != nil {
				t.Fatal(err)
			}
			if st.Uid != c.owner.UID || st.Gid != c.owner.GID {
				t.Errorf("its file belongs to %d:%d, want %d:%d", st.Uid, st.Gid, c.owner.UID, c.owner.GID)
			}
		})
	}
}

func TestGrantsAreGiven(t *testing.T) {
	t.Parallel()
	owner := process.Owner{UID: 51900, GID: 51901}
	granted := filepath.Join(tempDir(t, owner), "granted")
	if err := os.WriteFile(granted, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(granted, 51900, 51901); err != nil {
		t.Fatal(err)
	}
	r, s := probeIn(t, slot(4), owner, func(spec *Spec) {
		spec.Network = []string{"host"}
		spec.Paths = map[string]string{granted: "ro"}
		settings, _ := json.Marshal(testConfig{Probe: true, Peek: []string{granted}})
		spec.Config = settings
	})
	if s.Reads[granted] != "" {
		t.Errorf("read %s: %s", granted, s.Reads[granted])
	}
	if !slices.Contains(s.Interfaces, "lo") {
		t.Errorf("network granted, interfaces up: %v", s.Interfaces)
	}
	if slices.Contains(r.Status()[0].GetSandbox(), "network: none") {
		t.Errorf("sandbox says %q", r.Status()[0].GetSandbox())
	}
}

func TestPathThatTheOwnerCannotOpenIsNotGranted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := run(t, slot(5), Spec{Name: "greedy", Owner: process.Owner{UID: 51900, GID: 51901},
		Paths: map[string]string{"/etc/shadow": "ro"}})
	r.awaitState(StateBackoff)
	if e := r.Status()[0].GetLastError(); !strings.Contains(e, "/etc/shadow as uid 51900: permission denied") {
		t.Errorf("error = %q", e)
	}
}

func TestDirectoryOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	owner := process.Owner{UID: 51900, GID: 51901}
	config := tempDir(t, owner)
	elsewhere := tempDir(t, process.Owner{})
	if err := os.Symlink(elsewhere, filepath.Join(config, "own")); err != nil {
		t.Fatal(err)
	}
	r := run(t, slot(6), Spec{Name: "linked", Owner: owner, Directory: filepath.Join(config, "own")})
	r.awaitState(StateBackoff)
	if entries, _ := os.ReadDir(elsewhere); len(entries) > 0 {
		t.Errorf("it wrote to %s: %v", elsewhere, entries)
	}
}

func TestSandboxIsToldInWords(t *testing.T) {
	t.Parallel()
	r := run(t, slot(7), Spec{Name: "told", Owner: process.Owner{UID: 51900, GID: 51901}, Network: []string{"example.org:443"}})
	words := strings.Join(r.awaitState(StateRunning).GetSandbox(), "\n")
	for _, want := range []string{"no capabilities", "no_new_privs", "memory: ", "threads and processes: 256", "idmapped", "Landlock",
		"network: only [example.org:443]", "NOT enforced: disk"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is not said in:\n%s", want, words)
		}
	}
}

func TestSinkWhoseDirectoryIsDeletedGetsAnother(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := run(t, slot(91), Spec{Name: "sink", Owner: someone})
	first := r.awaitState(StateRunning).GetPid()
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	r.await("another start", func() bool { pid := r.Status()[0].GetPid(); return pid != 0 && pid != first })
	if s := r.awaitState(StateRunning); !strings.Contains(s.GetLastError(), errReplaced.Error()) {
		t.Errorf("it says %q", s.GetLastError())
	}
	r.feed.add(1)
	r.await("rows where they are looked for", func() bool { return len(r.rows()) > 0 })
}
