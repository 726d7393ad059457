package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockVariable); dir != "" {
		os.Exit(holdLock(dir))
	}
	if os.Getenv(borrowVariable) != "" {
		os.Exit(borrowAndGiveBack())
	}
	if len(os.Args) > 1 && os.Args[1] == "doctor" { // as another user
		os.Exit(run())
	}
	if len(os.Args) > 1 && os.Args[1] == "start-no-daemon" {
		os.Exit(fakeDaemon(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == launch.Verb {
		os.Exit(launch.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// testCall is a call whose output is kept, with an empty environment.
func testCall(t *testing.T) (c *call, out, errs *bytes.Buffer) {
	t.Helper()
	out, errs = new(bytes.Buffer), new(bytes.Buffer)
	return &call{
		out: out, errs: errs, getenv: func(string) string { return "" }, uid: uint32(os.Geteuid()), localtime: "/nonexistent",
		hooks: func([]string) ([]capture.Hook, error) { return nil, nil },
	}, out, errs
}

func TestExitCodesAndErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line string
		code int
		errs string // what it must contain; "" is silence
	}{
		{"help", exitOK, ""},
		{"help query", exitOK, ""},
		{"query --help", exitOK, ""},
		{"help nothing", exitUsage, `picosnitch: there is no verb "nothing" (see picosnitch help)`},
		{"", exitUsage, "Usage:"},
		{"strat", exitUsage, `picosnitch: there is no verb "strat" (did you mean start`},
		{"help query nothing", exitUsage, `picosnitch: there is no verb "query nothing" (see picosnitch help query)`},
		{"plugins nothing", exitUsage, `picosnitch: there is no verb "plugins nothing" (see picosnitch help plugins)`},
		{"db back", exitUsage, `picosnitch: there is no verb "db back" (did you mean backup?)`},
		{"status --bogus", exitUsage, "picosnitch: unknown flag: --bogus (see picosnitch help status)"},
		{"status --json=2", exitUsage, `picosnitch: status: --json "2": want true or false, or nothing (see picosnitch help status)`},
		{"query --limit x", exitUsage, `picosnitch: query: --limit "x": want a whole number from 0 to 4294967295 (see picosnitch help query)`},
		{"query --limit -1", exitUsage, `picosnitch: query: --limit "-1": want a whole number from`},
		{"query --limit 4294967296", exitUsage, `picosnitch: query: --limit "4294967296": want a whole number from`},
		{`query --by "exe`, exitUsage, `picosnitch: query: --by "\"exe": want words separated by commas (see picosnitch help query)`},
		{"query --since x", exitUsage, `picosnitch: query: --since: "x" is no time such as`},
		{"db export --since x --format csv -", exitUsage, `picosnitch: db export: --since: "x" is no time such as`},
		{"db export --where x --format csv -", exitUsage, `picosnitch: db export: --where "x" is no filter such as`},
		{"db export --format xml -", exitUsage, `picosnitch: db export: --format "xml": want csv, json or parquet`},
		{"db backup /nonexistent/x", exitFailure, "picosnitch: db backup: make a file in /nonexistent: no such file or directory\n"},
		{"events --interval x", exitUsage, `picosnitch: events: --interval "x": want a time such as 500ms or 5s (see picosnitch help events)`},
		{"events --interval 2m", exitUsage, "picosnitch: events: --interval 2m0s: want 100ms to 1m"},
		{"events --run-dir RUN", exitFailure, "host.sock: no such file or directory\n"},
		{"--version", exitUsage, "picosnitch: unknown flag: --version (see picosnitch help)"},
		{"status now", exitUsage, `picosnitch: status takes no argument such as "now"`},
		{"status --run-dir RUN", exitOK, ""},
		{"status --run-dir RUN --check", exitStopped, ""},
		{"status --run-dir RUN --check --json", exitStopped, ""},
		{"plugins --run-dir RUN", exitFailure, "picosnitch: plugins: picosnitch is not running"},
		{"query --run-dir RUN --config-dir RUN", exitFailure, "there is no history of store"},
		{"query --run-dir RUN --where name", exitUsage, "no filter such as name=curl"},
		{"query --run-dir RUN --config-dir RUN --store ../x", exitUsage, `picosnitch: query: no plugin is called "../x"`},
		{"db check --run-dir RUN --config-dir RUN --store ../x", exitUsage, `picosnitch: db check: no plugin is called "../x"`},
		{"query --json --csv", exitUsage, "choose one"},
		{"query --bucket 1d --zone Mars/Olympus", exitUsage, `query: --zone "Mars/Olympus": this machine knows no such time zone`},
		{"query --bucket 1d --zone Local", exitUsage, `query: --zone "Local": this machine knows no such time zone`},
		{"start --run-dir RUN/\n", exitUsage, "no path looks like this"},
	} {
		t.Run(c.line, func(t *testing.T) {
			t.Parallel()
			if strings.HasPrefix(c.line, "start") {
				needRoot(t)
			}
			call, _, errs := testCall(t)
			args := strings.Split(strings.ReplaceAll(c.line, "RUN", t.TempDir()), " ")
			if c.line == "" {
				args = []string{}
			}
			if code := call.run(t.Context(), args); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			got := errs.String()
			if !strings.Contains(got, c.errs) || c.errs == "" && got != "" {
				t.Errorf("says %q, want %q", got, c.errs)
			}
			if strings.HasPrefix(got, "picosnitch: ") && strings.Count(got, "\n") != 1 {
				t.Errorf("an error of several lines: %q", got)
			}
		})
	}
}

func TestEveryVerbIsExplainedWithAnExample(t *testing.T) {
	t.Parallel()
	c, _, _ := testCall(t)
	root := c.root()
	verbs := append([]*cobra.Command{root, helpVerb(root)}, root.Commands()...)
	for _, verb := range root.Commands() {
		verbs = append(verbs, verb.Commands()...)
	}
	for _, verb := range verbs {
		if verb.Long == "" || verb.Example == "" || verb.Short == "" {
			t.Errorf("%s has no Long, Short or Example", verb.Name())
		}
		for _, line := range strings.Split(verb.Long, "\n") {
			if len(line) > 130 {
				t.Errorf("%s: a line of %d characters", verb.Name(), len(line))
			}
		}
	}
	for _, name := range strings.Fields("start stop restart status start-no-daemon version plugins query events db verify config doctor") {
		if verb, _, err := root.Find([]string{name}); err != nil || verb.Name() != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsAreOneLineThatTerminalsDoNotObey(t *testing.T) {
	t.Parallel()
	if got := oneLine(errors.Join(errors.New("a\x1b[2J"), errors.New("b\r\tc")).Error()); got != "a [2J; b  c" {
		t.Errorf("got %q", got)
	}
}

func TestVersionSaysWhereFilesLie(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, out, _ := testCall(t)
	if code := c.run(t.Context(), []string{"version", "--config-dir", dir}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if want := "version: " + version + " (" + program + ")\nconfig and log files: " + dir + "\n"; out.String() != want {
		t.Errorf("says %q, want %q", out, want)
	}
}

func TestMissingPrivilegesAreNamed(t *testing.T) {
	t.Parallel()
	const all = uint64(1)<<41 - 1
	for _, c := range []struct {
		name string
		uid  int
		have uint64
		want string // "" is no error
	}{
		{"root", 0, all, ""},
		{"kernel without CAP_BPF", 0, all &^ (1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON), ""},
		{"user", 1000, 0, "start: missing privileges: uid 1000 is not root and has no CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON, " +
			"CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_KILL: try sudo picosnitch start"},
		{"container", 0, all &^ (1 << unix.CAP_SYS_ADMIN),
			"start: missing privileges: root has no CAP_SYS_ADMIN here: a container or service takes them away"},
		{"capable user", 1000, all, "start: missing privileges: uid 1000 is not root: try sudo picosnitch start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := checkPrivileges("start", c.uid, c.have)
			if (err == nil) != (c.want == "") || err != nil && (err.Error() != c.want || !errors.Is(err, errPrivileges)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestSettingsFollowFlagsThenEnvironmentThenDefaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, _, _ := testCall(t)
	environment := map[string]string{"PICOSNITCH_STATE": "/s", "PICOSNITCH_RUN_DIR": "/r", "PICOSNITCH_UIDS": "70000-70007"}
	c.getenv = func(name string) string { return environment[name] }
	c.flags = flags{configDir: dir, runDir: "/flag/../run"}
	s, err := c.settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.ConfigDir != dir || s.StateDir != "/s" || s.RunDir != "/run" || s.UIDs.First != 70000 {
		t.Errorf("settings %+v", s)
	}
	delete(environment, "PICOSNITCH_STATE")
	delete(environment, "PICOSNITCH_RUN_DIR")
	c.flags = flags{configDir: dir}
	if s, err = c.settings(t.Context()); err != nil || s.StateDir != defaultStateDir || s.RunDir != defaultRunDir || s.Instance != defaultInstance {
		t.Errorf("settings %+v, %v", s, err)
	}
	environment["PICOSNITCH_UIDS"] = "5"
	var usage *exitError
	if _, err = c.settings(t.Context()); !errors.As(err, &usage) || usage.code != exitUsage {
		t.Errorf("bad PICOSNITCH_UIDS: %v", err)
	}
}

func TestDaemonsWithOwnRunDirectoriesDoNotShareAnInstance(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, dir := range []string{defaultRunDir, "/run/other", "/run/third"} {
		name, err := instanceName(defaultInstance, dir)
		if err != nil {
			t.Fatal(err)
		}
		names[name] = true
	}
	if len(names) != 3 || !names[defaultInstance] {
		t.Errorf("instances %v", names)
	}
	if name, err := instanceName("lab-1-2", "/run/other"); name != "lab-1-2" || err != nil {
		t.Errorf("a chosen name: %q, %v", name, err)
	}
	for _, bad := range []string{"a/b", "..", ".", "a b", "-a", strings.Repeat("x", 65)} {
		if _, err := instanceName(bad, defaultRunDir); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestForegroundHoldsTheLockWhileTheDaemonRuns(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	c, out, _ := testCall(t)
	c.flags = flags{configDir: dir, stateDir: dir, runDir: filepath.Join(dir, "run")}
	failed := errors.New("no kernel")
	err := c.foreground(t.Context(), "start-no-daemon", func(_ context.Context, s settings, hangups <-chan os.Signal) error {
		if pid, err := holder(s.RunDir); pid != os.Getpid() || err != nil {
			t.Errorf("holder while it runs: %d, %v", pid, err)
		}
		// Whoever can read the pid may send SIGHUP, also while the daemon is still starting.
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		select {
		case <-hangups:
		case <-time.After(10 * time.Second):
			t.Error("SIGHUP was not heard")
		}
		return failed
	})
	if !errors.Is(err, failed) || err.Error() != "start-no-daemon: no kernel" {
		t.Errorf("error %v", err)
	}
	if want := "starting picosnitch in simple mode\nusing config and log files from: " + dir + "\n"; out.String() != want {
		t.Errorf("says %q, want %q", out, want)
	}
	if pid, err := holder(filepath.Join(dir, "run")); pid != 0 || err != nil {
		t.Errorf("holder after its end: %d, %v", pid, err)
	}
}

func TestLastWordsOfADaemonThatGaveUp(t *testing.T) {
	t.Parallel()
	s := settings{RunDir: t.TempDir()}
	path := filepath.Join(s.RunDir, logName)
	if got := s.lastWords(); !strings.Contains(got, "cannot be read") {
		t.Errorf("without a log: %q", got)
	}
	for content, want := range map[string]string{
		"":                          "it said nothing",
		"a\nb\npicosnitch: why\n":   "why (more in " + path + ")",
		strings.Repeat("x\n", 9000): "x (more in " + path + ")",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.lastWords(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
