package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestForkBombIsBounded(t *testing.T) {
	t.Parallel()
	e := target(t, "forks").start(t, 42)
	e.awaitState(StateRunning)
	e.await("the end of the bomb", func() bool {
		_, err := os.Stat(filepath.Join(e.spec.Directory, "report.json"))
		return err == nil
	})
	result := e.results(t)["forks"]
	children := 0
	if _, err := fmt.Sscanf(result, "%d children", &children); err != nil || children < 10 || children >= maxProcesses {
		t.Errorf("%q, want fewer than %d children", result, maxProcesses)
	}
	if !strings.Contains(result, "resource temporarily unavailable") {
		t.Errorf("%q does not name the limit", result)
	}
}

func TestMemoryBombEndsAloneAndIsNamed(t *testing.T) {
	t.Parallel()
	e := target(t, "memory").start(t, 43)
	e.await("the end of the bomb", func() bool {
		log, err := e.Log("escape")
		return err == nil && len(log.GetEnded()) > 0
	})
	log, _ := e.Log("escape")
	end := log.GetEnded()[0]
	words := strings.Join(e.Status()[0].GetSandbox(), "\n")
	if strings.Contains(words, "memory.") {
		if !end.GetOutOfMemory() || !strings.Contains(end.GetReason(), "out of the memory granted") {
			t.Errorf("ended with %v, want out of memory; sandbox:\n%s", end, words)
		}
	} else if !strings.Contains(end.GetReason(), "out of memory") {
		t.Errorf("ended with %q", end.GetReason())
	}
	if limit := uint64(escapeMB+64) << 20; end.GetPeakMemory() > limit {
		t.Errorf("it took %d bytes, want at most %d", end.GetPeakMemory(), limit)
	}
}

func TestDiskIsBounded(t *testing.T) {
	t.Parallel()
	for mode, n := range map[string]uint32{"disk": 44, "unlinked": 45} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			e := target(t, mode)
			e.spec.DiskMB = 16
			e.start(t, n)
			s := e.awaitState(StateBlocked)
			if !strings.Contains(s.GetLastError(), "16 are granted") {
				t.Errorf("error = %q", s.GetLastError())
			}
			used := int64(0)
			_ = filepath.WalkDir(e.spec.Directory, func(_ string, d fs.DirEntry, err error) error {
				if info, infoErr := d.Info(); err == nil && infoErr == nil {
					used += info.Size()
				}
				return nil
			})
			t.Logf("stopped with %d MiB on disk: %s", used>>20, s.GetLastError())
			e.freed(t)
		})
	}
}

func TestSocketDirectoryIsNoDisk(t *testing.T) {
	t.Parallel()
	e := target(t, "sockets").start(t, 92)
	e.await("its end", func() bool { return e.Status()[0].GetRestarts() > 0 })
	if s := e.Status()[0]; !strings.Contains(s.GetLastError(), "beside its sockets, 1 is granted") {
		t.Errorf("error = %q", s.GetLastError())
	}
}

// freed empties the directory, and the plugin comes back.
func (e *escaping) freed(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(e.spec.Directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.Remove(filepath.Join(e.spec.Directory, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	e.awaitState(StateRunning)
}

func TestFloodCostsTheHostLittle(t *testing.T) {
	t.Parallel()
	e := target(t, "flood").start(t, 46)
	e.awaitState(StateRunning)
	e.await("lines", func() bool {
		log, err := e.Log("escape")
		return err == nil && len(log.GetLines()) >= 100
	})
	log, err := e.Log("escape")
	if err != nil || len(log.GetLines()) > maxTail {
		t.Errorf("%d lines are kept, want at most %d, %v", len(log.GetLines()), maxTail, err)
	}
	if state := e.Status()[0].GetState(); state != StateRunning {
		t.Errorf("it is %s", state)
	}
}

func TestForgedLinesAreOnlyTheirWriters(t *testing.T) {
	t.Parallel()
	e := target(t, "forge")
	var mu sync.Mutex
	var log bytes.Buffer
	config, err := json.Marshal(e.targets)
	if err != nil {
		t.Fatal(err)
	}
	e.spec.Config = config
	e.rig = runWith(t, slot(47), func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	}, e.spec)
	e.awaitState(StateRunning)
	said := func() string { mu.Lock(); defer mu.Unlock(); return log.String() }
	e.await("the third line", func() bool { return strings.Contains(said(), "@timestamp") })
	for line := range strings.Lines(said()) {
		if !strings.Contains(line, " plugin=escape") {
			t.Errorf("a line that is not said to be the plugin's: %q", line)
		}
		if strings.ContainsAny(line, "\x1b\x07\r") {
			t.Errorf("control characters in %q", line)
		}
		if strings.HasPrefix(line, "2020") {
			t.Errorf("a forged beginning: %q", line)
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func TestHandshakesThatAreNone(t *testing.T) {
	t.Parallel()
	n := uint32(48)
	for name, want := range map[string]string{
		"garbage": "instead of core|wire", "nothing": "instead of core|wire", "old-wire": "wire version",
		"no-tls": "TLS is not optional", "bad-cert": "", "tcp": "want unix", "docker": "outside its socket directory",
		"huge": "ResourceExhausted",
	} {
		at := n
		n++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := target(t, "")
			e.spec.Name = name
			e.start(t, at)
			e.await("a failure", func() bool { return e.Status()[0].GetLastError() != "" })
			s := e.Status()[0]
			if !strings.Contains(s.GetLastError(), want) {
				t.Errorf("error %q does not say %q", s.GetLastError(), want)
			}
			if wantState := name != "bad-cert" && name != "huge"; wantState != (s.GetState() == StateBlocked) {
				t.Errorf("it is %s", s.GetState())
			}
		})
	}
}

func TestNothingSurvivesTheHost(t *testing.T) {
	t.Parallel()
	needRoot(t)
	path, err := escapePlugin()
	if err != nil {
		t.Fatal(err)
	}
	runDir := tempDir(t, someone)
	host := exec.Command(selfPath(t), "doomed-host", runDir, filepath.Join(tempDir(t, someone), "own"), path, `{"Mode":"orphan"}`)
	pid := awaitDoomed(t, host, runDir)
	uid := ownerOf(t, pid)
	for deadline := time.Now().Add(patience(t)); len(processesOf(uid)) < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes, want the plugin, its child, and that one's child", len(processesOf(uid)))
		}
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	for deadline := time.Now().Add(10 * time.Second); len(processesOf(uid)) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still alive: %v", processesOf(uid))
		}
	}
}

func ownerOf(t *testing.T, pid int) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid), &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid
}

// processesOf are the living ones of a user.
func processesOf(uid uint32) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var st unix.Stat_t
		pid, err := strconv.Atoi(e.Name())
		if err == nil && unix.Stat("/proc/"+e.Name(), &st) == nil && st.Uid == uid && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
