package rights

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

func TestALimitIsNeverRaised(t *testing.T) {
	t.Parallel()
	for _, step := range []struct{ ask, want uint64 }{{4096, 4096}, {8192, 4096}, {0, 0}} {
		if err := Lower(unix.RLIMIT_MSGQUEUE, step.ask, "message queues"); err != nil {
			t.Fatal(err)
		}
		var have unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MSGQUEUE, &have); err != nil || have.Cur != step.want || have.Max != step.want {
			t.Errorf("asked for %d: %+v, %v", step.ask, have, err)
		}
	}
}

func TestWhatAThreadStartsInheritsNoCapability(t *testing.T) {
	t.Parallel()
	need.Root(t, "drop capabilities")
	status := make(chan string)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes with what it lost
		if err := DropInherited(); err != nil {
			t.Error(err)
		}
		text, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			t.Error(err)
		}
		status <- string(text)
	}()
	text := <-status
	for _, set := range []string{"CapBnd", "CapAmb"} {
		if !strings.Contains(text, set+":\t0000000000000000\n") {
			t.Errorf("%s is not empty:\n%s", set, text)
		}
	}
}
