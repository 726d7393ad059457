package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/test/need"
)

// here are options for an installation in directories of the test's own.
func here(t *testing.T) Options {
	t.Helper()
	root := t.TempDir()
	me := uint32(os.Getuid())
	return Options{
		Version: "2.0.0", ConfigDir: filepath.Join(root, "config"), StateDir: filepath.Join(root, "state"), Instance: "doctor-test",
		Owner: home.Owner{UID: me, GID: uint32(os.Getgid())}, Missing: []string{}, Program: "/nonexistent/picosnitch", PluginUID: 60900,
		FindPlugin: func(string) (string, bool) { return "", false },
		Hooks:      func() ([]capture.Hook, error) { return nil, nil },
		Daemon:     func(context.Context) Daemon { return Daemon{} },
	}
}

func writeConfig(t *testing.T, o Options, text string) {
	t.Helper()
	if err := os.MkdirAll(o.ConfigDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.ConfigDir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLookingMakesNoFile(t *testing.T) {
	t.Parallel()
	o := here(t)
	f := Look(t.Context(), o)
	entries, err := os.ReadDir(filepath.Dir(o.ConfigDir))
	if err != nil || len(entries) != 0 {
		t.Errorf("looking left %v, error %v", entries, err)
	}
	if f.Config.Exists || f.Config.Error != "" || f.Disks[0].Exists || f.Disks[0].Total == 0 || f.Journal.Exists {
		t.Errorf("of directories that do not exist: %+v, %+v, %+v", f.Config, f.Disks, f.Journal)
	}
	writeConfig(t, o, `{"DB sql lgo": true}`)
	Look(t.Context(), o)
	entries, err = os.ReadDir(o.ConfigDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("looking left %v beside config.json, error %v", entries, err)
	}
	if text, err := os.ReadFile(filepath.Join(o.ConfigDir, "config.json")); err != nil || string(text) != `{"DB sql lgo": true}` {
		t.Errorf("config.json now says %q, error %v", text, err)
	}
}

func TestMistakesOfTheConfigurationHaveAPlace(t *testing.T) {
	t.Parallel()
	o := here(t)
	writeConfig(t, o, "{\"DB sql lgo\": true,\n \"DB retention (days)\": -1, \"VT API key\": \"s3cret\"}")
	c := lookConfig(o).fact
	if len(c.Problems) != 2 || !c.Broken {
		t.Fatalf("found %+v", c)
	}
	if p := c.Problems[0]; p.Severity != "warning" || p.Line != 1 || p.Hint != `did you mean "DB sql log"?` {
		t.Errorf("first problem %+v", p)
	}
	if p := c.Problems[1]; p.Severity != "error" || p.Line != 2 || p.Column == 0 || !strings.HasPrefix(p.Text, filepath.Join(o.ConfigDir, "config.json")+":2:") {
		t.Errorf("second problem %+v", p)
	}
	if !cmp.Equal(c.Changed, []string{"VT API key"}) || strings.Contains(fmt.Sprint(Look(t.Context(), o)), "s3cret") {
		t.Errorf("changed keys %q; a secret must not be told", c.Changed)
	}
}

func TestSecretsThatEveryUserMayReadAreAWarning(t *testing.T) {
	t.Parallel()
	const secrets = `{"VT API key": "s3cret", "DB sql server": {"client": "mariadb", "host": "h", "password": "s3cret"},
"Plugins": {"acme": {"config": {"hooks": [{"token": "s3cret"}]}}, "host": {"config": {"group": "net"}}}}`
	for _, c := range []struct {
		text string
		mode os.FileMode
		want []string
	}{
		{secrets, 0o644, []string{"DB sql server", "VT API key", "Plugins.acme.config"}},
		{secrets, 0o640, nil},
		{`{"DB sql server": {"client": "mariadb", "host": "h", "user": "u"}}`, 0o644, nil},
		{`{}`, 0o644, nil},
	} {
		o := here(t)
		writeConfig(t, o, c.text)
		if err := os.Chmod(filepath.Join(o.ConfigDir, "config.json"), c.mode); err != nil {
			t.Fatal(err)
		}
		f := well()
		f.Config = lookConfig(o).fact
		if !cmp.Equal(f.Config.Exposed, c.want) {
			t.Errorf("mode %o: exposed %q, want %q", c.mode, f.Config.Exposed, c.want)
		}
		found := judgeConfig(f)
		told := len(found) > 0 && found[0].Level == Warning && strings.HasPrefix(found[0].Do, "chmod 600 ")
		if told != (c.want != nil) || strings.Contains(fmt.Sprint(found), "s3cret") {
			t.Errorf("mode %o: found %+v", c.mode, found)
		}
	}
}

func TestAnUnreadableConfigurationIsAProblem(t *testing.T) {
	t.Parallel()
	o := here(t)
	if err := os.MkdirAll(filepath.Join(o.ConfigDir, "config.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := well()
	f.Config = lookConfig(o).fact
	if found := judgeConfig(f); len(found) != 1 || found[0].Level != Problem {
		t.Errorf("a directory in the file's place: %+v", found)
	}
}

func TestAPluginThatAnybodyMayWriteIsAProblem(t *testing.T) {
	t.Parallel()
	o := here(t)
	path := filepath.Join(filepath.Dir(o.ConfigDir), "plugin\x1b[2J")
	if err := os.WriteFile(path, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	writeConfig(t, o, `{"Plugins": {"acme": {"path": "`+strings.ReplaceAll(path, "\x1b", "\\u001b")+`"}}}`)
	plugins := Look(t.Context(), o).Plugins
	p := plugins[len(plugins)-1]
	if found := judgePlugin(p); p.Name != "acme" || p.Trusted || found.Level != Problem || strings.Contains(found.Says, "\x1b") {
		t.Errorf("found %+v, says %+v", p, found)
	}
}

func TestHooksAreTriedOnlyWithPrivileges(t *testing.T) {
	t.Parallel()
	tried := func() ([]capture.Hook, error) {
		return []capture.Hook{{Sees: "x", Failures: []capture.Failure{{Way: "fexit", Err: fmt.Errorf("attach: %w", unix.EINVAL)}}}}, nil
	}
	for _, p := range []Privileges{{UID: 51000}, {Missing: []string{"CAP_BPF"}}} {
		if c := lookCapture(p, tried); c.Tried || len(c.Hooks) != 0 {
			t.Errorf("with %+v: %+v", p, c)
		}
	}
	c := lookCapture(Privileges{}, tried)
	want := []Failure{{Way: "fexit", Errno: "EINVAL", Error: "attach: invalid argument", Verifier: []string{}}}
	if !c.Tried || len(c.Hooks) != 1 || !cmp.Equal(c.Hooks[0].Failures, want) {
		t.Errorf("as root: %+v", c)
	}
}

func TestWhatKeepsHooksFromBeingTriedIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{capture.ErrNoCgroup, 0}, // told by "cgroup"
		{fmt.Errorf("%w: %w", capture.ErrNoTypes, errors.ErrUnsupported), 0},
		{fmt.Errorf("make BPF maps: %w", unix.EPERM), 1},
	} {
		f := well()
		f.Capture = lookCapture(Privileges{}, func() ([]capture.Hook, error) { return nil, c.err })
		if found := judgeCapture(f); len(found) != c.want {
			t.Errorf("%v: %+v", c.err, found)
		}
	}
}

func TestEveryHookHasAWayHereAndACost(t *testing.T) {
	need.Root(t, "load BPF programs")
	o := here(t)
	o.Hooks = func() ([]capture.Hook, error) { return capture.Check(nil) }
	f := Look(t.Context(), o)
	if f.Capture.Error != "" || len(f.Capture.Hooks) == 0 {
		t.Fatalf("hooks were not tried: %+v", f.Capture)
	}
	for _, h := range f.Capture.Hooks {
		if h.Way == "" {
			t.Errorf("no way to see %s: %v", h.Sees, h.Failures)
		}
		if !h.Essential && Cost(h.Sees) == "" {
			t.Errorf("nobody wrote down what it costs not to see %s", h.Sees)
		}
	}
}
