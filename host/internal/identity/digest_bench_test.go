package identity

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchSize is large for an executable, and small enough for the page cache.
const benchSize = 256 << 20

// BenchmarkDigest compares what a worker does with sha256sum, its start included: the same file, in turns, on one core. What
// counts is processor time, which a loaded machine hardly changes.
func BenchmarkDigest(b *testing.B) {
	path := filepath.Join(b.TempDir(), "large")
	if err := os.WriteFile(path, make([]byte, benchSize), 0o644); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	stayOnCore(b)
	buffer := make([]byte, readSize)
	var ours, theirs time.Duration
	for b.Loop() {
		before := threadTime(b)
		if _, err := digest(file, buffer, time.Now().Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
		ours += threadTime(b) - before
		cmd := exec.Command("sha256sum", path) // on the core of the thread that starts it
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		theirs += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	megabytes := float64(b.N) * benchSize / 1e6
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(megabytes/ours.Seconds(), "MB/s")
	b.ReportMetric(megabytes/theirs.Seconds(), "sha256sum-MB/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-as-fast")
}

// stayOnCore keeps the calling goroutine, and what it starts, on one core until the benchmark ends.
func stayOnCore(b *testing.B) {
	b.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		b.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if may.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Fatal(err)
	}
}

// threadTime is the processor time of the calling thread.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
