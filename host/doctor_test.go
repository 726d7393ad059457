package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/doctor"
)

func TestVerdictsHaveExitCodes(t *testing.T) {
	t.Parallel()
	for verdict, want := range map[doctor.Verdict]int{
		doctor.AllWell: 0, doctor.WithWarnings: 0, doctor.WithProblems: 1, doctor.CannotCapture: 5,
	} {
		if code := verdictCode(verdict); code != want {
			t.Errorf("%s: exit code %d, want %d", verdict, code, want)
		}
	}
}

func TestWhatMayPassIsTriedAgainAndTheRestIsNot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("open capture: %w bytes sent: %w", capture.ErrHook, unix.EINVAL), exitNoCapture},
		{fmt.Errorf("open capture: %w", capture.ErrNoCgroup), exitNoCapture},
		{fmt.Errorf("open capture: %w: %w", capture.ErrNoTypes, unix.ENOENT), exitNoCapture},
		{fmt.Errorf("open capture: make BPF maps: %w", unix.EPERM), exitNoCapture},
		{fmt.Errorf("open capture: make BPF maps: %w", unix.ENOMEM), exitFailure},
		{fmt.Errorf("open capture: %w bytes sent: %w", capture.ErrHook, unix.EMFILE), exitFailure},
	} {
		code, exit := exitFailure, (*exitError)(nil)
		if errors.As(refusal(c.err), &exit) {
			code = exit.code
		}
		if code != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.want)
		}
	}
}

// blind is a kernel that lets nothing be counted.
func blind([]string) ([]capture.Hook, error) {
	return []capture.Hook{
		{Sees: "bytes sent", Essential: true, Failures: []capture.Failure{{Way: "fexit", Err: fmt.Errorf("load: %w", unix.EINVAL)}}},
	}, nil
}

func TestADaemonThatCannotCaptureTellsWhy(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c, _, errs := testCall(t)
	c.hooks = blind
	where := daemonFlags(t, "doctor")
	c.flags.configDir, c.flags.stateDir, c.flags.runDir, c.flags.instance = where[1], where[3], where[5], where[7]
	err := c.foreground(t.Context(), "start-no-daemon", func(context.Context, settings, <-chan os.Signal) error {
		return refusal(fmt.Errorf("open capture: %w bytes sent", capture.ErrHook))
	})
	if exit := (*exitError)(nil); !errors.As(err, &exit) || exit.code != exitNoCapture {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(errs.String(), "problem  hook: not seen: bytes sent") || !strings.Contains(errs.String(), "fexit [EINVAL]") {
		t.Errorf("says %q", errs)
	}
}

func TestStartPassesOnThatNothingCanBeCaptured(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c, _, errs := testCall(t)
	c.hooks = blind
	if code := c.run(t.Context(), append([]string{"start"}, daemonFlags(t, "cannot-capture")...)); code != exitNoCapture {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"problem  hook: not seen: bytes sent", "the daemon gave up (exit code 5): start-no-daemon: open capture: no way"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("does not say %q: %q", want, errs)
		}
	}
}

func TestDoctorOnThisMachineFindsAWayForEveryHook(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c, out, errs := testCall(t)
	c.hooks = capture.Check
	code := c.run(t.Context(), append([]string{"doctor", "--json"}, daemonFlags(t, "doctor")...))
	var r doctor.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("exit code %d, %v, says %q", code, err, errs)
	}
	if code != exitOK || r.Schema != doctor.Schema || len(r.Facts.Capture.Hooks) == 0 {
		t.Errorf("exit code %d, report %+v", code, r)
	}
	for _, h := range r.Facts.Capture.Hooks {
		if h.Way == "" {
			t.Errorf("no way to see %s: %+v", h.Sees, h.Failures)
		}
	}
}

func TestDoctorThatIsBlindExitsWithItsOwnCode(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c, out, errs := testCall(t)
	c.hooks = blind
	code := c.run(t.Context(), append([]string{"doctor"}, daemonFlags(t, "doctor")...))
	if code != exitNoCapture || errs.Len() > 0 || !strings.Contains(out.String(), "picosnitch cannot capture here: 1 problem") {
		t.Errorf("exit code %d, %q, says %q", code, out, errs)
	}
}

// asStranger gives a command that runs this program as a user who has nothing, in a directory that they can reach.
func asStranger(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "picosnitch-doctor-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "picosnitch")
	if err := errors.Join(os.WriteFile(path, program, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Env = "/", []string{"HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 51000, Gid: 51000}}
	return cmd
}

func TestDoctorWithoutRootSaysWhatCannotBeTold(t *testing.T) {
	t.Parallel()
	needRoot(t)
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := asStranger(t, "doctor", "--config-dir", filepath.Join(closed, "c"), "--run-dir", "/nonexistent/run", "--state-dir", "/nonexistent/state")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil || errs.Len() > 0 {
		t.Errorf("%v, says %q", err, errs.String())
	}
	for _, want := range []string{
		"warning  privileges: uid 51000 is not root", "warning  config: cannot be read without root",
		"nothing is known to keep picosnitch from working here",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q: %s", want, out.String())
		}
	}
}
