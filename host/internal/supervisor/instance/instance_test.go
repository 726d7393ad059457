package instance_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func closeIt(t *testing.T, i *instance.Instance) {
	t.Helper()
	begun := time.Now()
	if err := i.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("close took %v", took)
	}
}

func TestPluginAnswersAndLeavesNothing(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "good"))
	describe(t, i)
	closeIt(t, i)
	if e := i.Exit(); e.Signal != syscall.SIGKILL {
		t.Errorf("exit = %v", e)
	}
}

func TestHandshakesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"bad-cert":   "cert",
		"no-cert":    "TLS is not optional",
		"docker":     "outside its socket directory",
		"tcp":        "want unix",
		"link":       "too many levels of symbolic links|is no socket",
		"wrong-wire": "wire version",
		"chatty":     "hello, I am a plugin",
		"endless":    "has no end",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := instance.Start(t.Context(), options(t, name))
			if err == nil {
				t.Fatal("it started")
			}
			if name != "bad-cert" && !errors.Is(err, instance.ErrProtocol) {
				t.Errorf("error %v is no ErrProtocol", err)
			}
			found := false
			for w := range strings.SplitSeq(want, "|") {
				found = found || strings.Contains(err.Error(), w)
			}
			if !found {
				t.Errorf("error %q does not say %q", err, want)
			}
		})
	}
}

func TestStartGivesUpInTime(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"silent", "mute"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, name)
			o.Timeout = time.Second
			begun := time.Now()
			_, err := instance.Start(t.Context(), o)
			if err == nil {
				t.Fatal("it started")
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("took %v: %v", took, err)
			}
		})
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := instance.Start(ctx, options(t, "silent")); err == nil {
		t.Fatal("it started")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestPanicBeforeTheHandshakeIsTold(t *testing.T) {
	t.Parallel()
	_, err := instance.Start(t.Context(), options(t, "panics"))
	if err == nil || !strings.Contains(err.Error(), "no cheese left") || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("error = %v", err)
	}
}

func TestOddLinesOnStandardErrorAreOnlyText(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "odd-log"))
	describe(t, i)
	closeIt(t, i)
	said := strings.Join(i.Tail(200), "\n")
	for _, want := range []string{`{"@message":1}`, `\x1b[31mred\x00\xff`, `"msg":[1]`} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in the tail:\n%s", want, said)
		}
	}
}

func TestHugeAnswerIsRefused(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "good"))
	defer closeIt(t, i)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := i.Client.Plugin.Health(ctx, &wire.HealthRequest{})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("error = %v, want ResourceExhausted", err)
	}
	describe(t, i)
}

func TestStoppedPluginIsKilledInTime(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "good"))
	if err := syscall.Kill(i.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// All of its threads have stopped when the kernel tells the parent.
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, i.PID(), &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := i.Client.Plugin.Describe(ctx, &wire.DescribeRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error = %v, want DeadlineExceeded", err)
	}
	closeIt(t, i)
}

func TestDeathIsSeenThoughADescendantHoldsThePipes(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "parent"))
	describe(t, i)
	child := 0
	for _, line := range i.Tail(200) {
		if n, err := strconv.Atoi(line); err == nil {
			child = n
		}
	}
	if child == 0 {
		t.Fatalf("no child in %q", i.Tail(200))
	}
	defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }()
	if err := syscall.Kill(i.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-i.Done():
	case <-time.After(10 * time.Second):
		t.Error("the death was not seen")
	}
	closeIt(t, i)
}

func TestQuitBringsStacks(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "good"))
	i.Quit()
	select {
	case <-i.Done():
	case <-time.After(10 * time.Second):
		t.Error("it did not end")
	}
	closeIt(t, i)
	if crash := i.Crash(); len(crash) < 2 || !strings.HasPrefix(crash[0], "SIGQUIT") {
		t.Errorf("crash = %q", crash)
	}
}

func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	o := options(t, "flood")
	i := start(t, o)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	time.Sleep(time.Second)
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	describe(t, i)
	closeIt(t, i)
	if lines := i.Tail(1000); len(lines) > 200 || len(lines) < 100 {
		t.Errorf("%d lines kept, want up to 200", len(lines))
	}
	t.Logf("host's processor time in a second of flood: %v", time.Duration(after.Utime.Nano()-before.Utime.Nano()))
}

func TestPrintedTextIsKept(t *testing.T) {
	t.Parallel()
	i := start(t, options(t, "good"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := i.Client.Plugin.Configure(ctx, &wire.ConfigureRequest{}); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && !strings.Contains(strings.Join(i.Tail(200), "\n"), "said by println") {
		time.Sleep(10 * time.Millisecond)
	}
	closeIt(t, i)
	if ctx.Err() != nil {
		t.Errorf("not in the tail: %q", i.Tail(200))
	}
}

// Not parallel: it counts what the whole process holds.
func TestFiftyStartsAndKillsLeaveNothing(t *testing.T) {
	o := options(t, "good")
	cycle := func() {
		i := start(t, o)
		if err := syscall.Kill(i.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-i.Done()
		closeIt(t, i)
	}
	cycle()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	begun := time.Now()
	for range 50 {
		cycle()
	}
	t.Logf("%v a cycle", time.Since(begun)/50)
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > goroutines && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, before %d:\n%s", now, goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d open files, before %d", now, files)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
