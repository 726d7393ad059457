package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// fakeDaemon is what start finds in place of the daemon: the test binary. The instance says what it does.
func fakeDaemon(args []string) int {
	var config, state, run, instance string
	f := flag.NewFlagSet("fake", flag.ExitOnError)
	f.StringVar(&config, "config-dir", "", "")
	f.StringVar(&state, "state-dir", "", "")
	f.StringVar(&run, "run-dir", "", "")
	f.StringVar(&instance, "instance", "", "")
	if err := f.Parse(args); err != nil || config == "" || state == "" {
		return 1
	}
	if _, err := acquire(run); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if instance == "gives-up" {
		fmt.Fprintln(os.Stderr, "level=INFO msg=starting\npicosnitch: start-no-daemon: load programs: operation not permitted")
		return 7
	}
	if instance == "cannot-capture" {
		fmt.Fprintln(os.Stderr, "picosnitch: start-no-daemon: open capture: no way")
		return exitNoCapture
	}
	if instance == "captures" {
		if err := os.WriteFile(filepath.Join(run, readyFile), nil, 0o644); err != nil {
			return 1
		}
	}
	time.Sleep(time.Minute)
	return 0
}

// daemonFlags are directories of a test's own.
func daemonFlags(t *testing.T, instance string) []string {
	t.Helper()
	dir := t.TempDir()
	return []string{"--config-dir", dir, "--state-dir", filepath.Join(dir, "s"), "--run-dir", filepath.Join(dir, "r"), "--instance", instance}
}

func TestStartReturnsOnceTheDaemonCaptures(t *testing.T) {
	t.Parallel()
	needRoot(t)
	where := daemonFlags(t, "captures")
	c, out, errs := testCall(t)
	if code := c.run(t.Context(), append([]string{"start"}, where...)); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if out.String() != "starting picosnitch daemon\n" {
		t.Errorf("says %q", out)
	}
	pid, err := holder(where[5])
	if err != nil || pid == 0 || pid == os.Getpid() {
		t.Errorf("holder %d, %v", pid, err)
	}
	if code := c.run(t.Context(), append([]string{"start"}, where...)); code != exitFailure ||
		!strings.Contains(errs.String(), fmt.Sprintf("start: picosnitch is already running with pid %d", pid)) {
		t.Errorf("second start: %d, %q", code, errs)
	}
	if code := c.run(t.Context(), append([]string{"stop"}, where...)); code != exitOK {
		t.Errorf("stop: %d, %q", code, errs)
	}
	_, _, _ = reap(pid) // it is our child
}

func TestStartTellsWhyTheDaemonGaveUp(t *testing.T) {
	t.Parallel()
	needRoot(t)
	where := daemonFlags(t, "gives-up")
	c, _, errs := testCall(t)
	if code := c.run(t.Context(), append([]string{"start"}, where...)); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	want := "picosnitch: start: the daemon gave up (exit code 7): start-no-daemon: load programs: operation not permitted (more in " +
		filepath.Join(where[5], logName) + ")\n"
	if errs.String() != want {
		t.Errorf("says %q, want %q", errs, want)
	}
	info, err := os.Stat(filepath.Join(where[5], logName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log: %v, %v", info, err)
	}
}

func TestStartThatIsInterruptedLeavesNoDaemon(t *testing.T) {
	t.Parallel()
	needRoot(t)
	where := daemonFlags(t, "never-captures")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, _, errs := testCall(t)
	code := make(chan int, 1)
	go func() { code <- c.run(ctx, append([]string{"start"}, where...)) }()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if pid, err := holder(where[5]); err == nil && pid != 0 {
			break
		}
	}
	cancel()
	if got := <-code; got != exitFailure || !strings.Contains(errs.String(), "given up") {
		t.Errorf("exit code %d, %q", got, errs)
	}
	if pid, err := holder(where[5]); pid != 0 || err != nil {
		t.Errorf("holder %d, %v", pid, err)
	}
}

// backend answers for a daemon.
type backend struct{ degraded bool }

func (b backend) Status() *wire.StatusResponse {
	return &wire.StatusResponse{Pid: 4711, Version: "2", Degraded: b.degraded}
}

func (backend) Plugins() []*wire.PluginStatus {
	return []*wire.PluginStatus{{Name: "sqlite", State: "running", Pid: 5, Acknowledged: 9, Sandbox: []string{"no_new_privs"}}}
}

func (backend) Query(_ context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	if len(q.GetBy()) != 1 || q.GetBy()[0] != "exe" || store != "" {
		return status.Error(codes.InvalidArgument, "query: there is no column \"x\"; columns are exe")
	}
	return page(&wire.QueryPage{Rows: []*wire.QueryRow{{
		Values:   []*wire.Value{{Kind: &wire.Value_Text{Text: []byte("/bin/a")}}},
		Measures: &wire.Measures{Sent: 4567, Received: 89, Rows: 1},
	}}})
}

func listen(t *testing.T, b api.Backend) string {
	t.Helper()
	dir := t.TempDir()
	s, err := api.Listen(api.Options{RunDir: dir}, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestVerbsThatAskTheDaemon(t *testing.T) {
	t.Parallel()
	needRoot(t)
	well, ill := listen(t, backend{}), listen(t, backend{degraded: true})
	for _, c := range []struct {
		line string
		code int
		out  string
	}{
		{"status --check --run-dir " + well, exitOK, "picosnitch is currently running with pid 4711.\n"},
		{"status --check --run-dir " + ill, exitDegraded, "degraded"},
		{"status --run-dir " + ill, exitOK, "degraded"},
		{"plugins --run-dir " + well, exitOK, "sqlite"},
		{"query --by exe --run-dir " + well, exitOK, "/bin/a  4.6 kB    0.1 kB     1\n"},
		{"query --by exe --csv --run-dir " + well, exitOK, "/bin/a,4567,89,1,"},
		{"query --by x --run-dir " + well, exitUsage, ""},
	} {
		call, out, errs := testCall(t)
		if code := call.run(t.Context(), strings.Fields(c.line)); code != c.code || !strings.Contains(out.String(), c.out) {
			t.Errorf("%s: exit code %d, %q, %q", c.line, code, out, errs)
		}
	}
	call, out, _ := testCall(t)
	call.run(t.Context(), []string{"plugins", "--json", "--run-dir", well})
	var lines []map[string]any
	if err := json.Unmarshal(out.Bytes(), &lines); err != nil || len(lines) != 1 || lines[0]["acknowledged"] != 9.0 || lines[0]["state"] != "running" {
		t.Errorf("plugins --json: %v, %s", err, out)
	}
}

func TestAnotherAttemptIsNoSuccessYet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state, consequence string
		want               int
	}{
		{supervisor.StateStarting, "", 0}, {supervisor.StateRunning, "2 records were refused and are gaps", 0},
		{supervisor.StateStarting, "x does not work since 10:02", 1}, {supervisor.StateBlocked, "", 1},
	} {
		plugin := &wire.PluginStatus{Name: "x", State: c.state, Consequence: c.consequence}
		if got := pluginMessages([]*wire.PluginStatus{plugin}); len(got) != c.want {
			t.Errorf("%s, %q: %q, want %d", c.state, c.consequence, got, c.want)
		}
	}
}
