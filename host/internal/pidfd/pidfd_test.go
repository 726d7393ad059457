package pidfd

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// child runs until the test ends it.
func child(t *testing.T) (*exec.Cmd, *os.File) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = fd.Close()
	})
	return cmd, fd
}

func TestWaitReturnsAtTheEndAndLeavesTheChildToBeReaped(t *testing.T) {
	t.Parallel()
	cmd, fd := child(t)
	ended := make(chan error, 1)
	go func() { ended <- Wait(fd) }()
	select {
	case err := <-ended:
		t.Fatalf("the child lives, and yet: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if state, err := cmd.Process.Wait(); err != nil || state.Exited() {
		t.Errorf("reaped: %v, %v", state, err)
	}
}

func TestADeadlineEndsTheWait(t *testing.T) {
	t.Parallel()
	_, fd := child(t)
	if err := fd.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := Wait(fd); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
