package identity

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// shortLived is how many programs end at once in the test; the lab runs 10,000.
const shortLived = 500

func everyShortLivedProgramIsHashed(t *testing.T, s *station) {
	dir := mount(t, "tmpfs", "tmpfs", "")
	s.mounted(dir)
	contents := make([][]byte, shortLived)
	for i := range contents {
		contents[i] = quick(fmt.Sprintf("short-lived %d", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), contents[i], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * racy)
	pids := make([]int, shortLived)
	var running sync.WaitGroup
	for part := range 4 {
		running.Go(func() {
			for i := part; i < shortLived; i += 4 {
				pids[i] = run(t, filepath.Join(dir, fmt.Sprint(i)))
			}
		})
	}
	running.Wait()
	if t.Failed() {
		return
	}
	for _, pid := range pids {
		s.executions(pid, 1)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // nothing is left but what the kernel handed over
		t.Fatal(err)
	}
	for i, pid := range pids {
		if e := s.want(pid, contents[i]); e.GetHashStatus() != wire.HashStatus_HASH_OK {
			t.Errorf("%d: %v", i, e.GetHashStatus())
		}
	}
	t.Logf("%+v", s.table.Counters())
}

func executableOfAnUnmountedFileSystemIsLetGo(t *testing.T, s *station) {
	dir := mount(t, "tmpfs", "tmpfs", "")
	s.mounted(dir)
	content := quick("stick")
	path := write(t, dir, "stick", content)
	pid := run(t, path)
	ended := time.Now()
	for unix.Unmount(dir, 0) != nil {
		if time.Since(ended) > 10*time.Second {
			t.Fatal("still busy after 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("unmounted %v after the end (2 s allowed)", time.Since(ended))
	s.want(pid, content)
	file := s.executions(pid, 1)[0].File
	waitFor(t, func() bool {
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		return s.table.files[fileID{file: file}] == nil
	})
}

func fileThatIsReplacedOrRemovedWhileItRunsIsWhatWasExecuted(t *testing.T, s *station) {
	dir := t.TempDir()
	before, after := lasting("before"), lasting("after")
	path := write(t, dir, "program", before)
	first := stay(t, path, nil)
	s.executions(first, 1)
	if err := os.Rename(write(t, dir, "new", after), path); err != nil {
		t.Fatal(err)
	}
	second := stay(t, path, nil)
	s.executions(second, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if e := s.want(first, before); string(e.GetPath().GetValue()) != path {
		t.Errorf("path %q", e.GetPath().GetValue())
	}
	s.want(second, after)
}

func fileThatIsModifiedAndRunAgainIsHashedAgain(t *testing.T, s *station) {
	path := write(t, t.TempDir(), "program", quick("1"))
	s.want(run(t, path), quick("1"))
	write(t, filepath.Dir(path), "program", quick("2"))
	s.want(run(t, path), quick("2"))
	waitFor(t, func() bool { return s.marks.Counters().Writes > 0 })
}

func fileRewrittenWithinATickNeverLendsItsHash(t *testing.T, s *station) {
	path := filepath.Join(t.TempDir(), "program")
	said := map[wire.HashStatus]int{}
	defer func() {
		if t.Logf("%v", said); said[wire.HashStatus_HASH_PENDING] > 0 {
			t.Error("some were never settled")
		}
	}()
	for i := range 40 {
		first, second := quick(fmt.Sprint(i, "a")), quick(fmt.Sprint(i, "b"))
		var pids [2]int
		for j, content := range [][]byte{first, second} {
			if err := os.WriteFile(path, content, 0o755); err != nil {
				t.Fatal(err)
			}
			pids[j] = run(t, path)
		}
		for j, content := range [][]byte{first, second} {
			e := s.executable(s.executions(pids[j], 1)[0])
			said[e.GetHashStatus()]++
			other := [][]byte{second, first}[j]
			if sum := sum(string(other)); string(e.GetSha256()) == sum && e.GetHashStatus() != wire.HashStatus_HASH_RACY {
				t.Errorf("pair %d, run %d: the other one's hash, %v", i, j, e.GetHashStatus())
			}
			if len(e.GetSha256()) > 0 && e.GetHashStatus() == wire.HashStatus_HASH_OK && string(e.GetSha256()) != sum(string(content)) {
				t.Errorf("pair %d, run %d: a hash of neither", i, j)
			}
		}
	}
}

func oneFileOfManyNamesIsReadOnce(t *testing.T, s *station) {
	dir := t.TempDir()
	content := quick("multi-call")
	path := write(t, dir, "box", content)
	for _, name := range []string{"ls", "cat"} {
		if err := os.Link(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * racy)
	for name, shown := range map[string]string{"ls": "ls", "cat": "cat", "link": "box"} {
		e := s.want(run(t, filepath.Join(dir, name)), content)
		if got := string(e.GetPath().GetValue()); got != filepath.Join(dir, shown) {
			t.Errorf("%s: path %q", name, got)
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	count := 0
	for _, e := range s.table.files {
		if strings.HasPrefix(e.path, dir) {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d executables of one file", count)
	}
}

func scriptIsNamedBesideItsInterpreter(t *testing.T, s *station) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, t.TempDir(), "script", []byte("#!/bin/sh\nexit 0\n"))
	e := s.want(run(t, path), content)
	if got := string(e.GetScript().GetValue()); got != path {
		t.Errorf("script %q, want %q", got, path)
	}
	if e := s.want(run(t, "/bin/sh", "-c", ":"), content); e.GetScript() != nil {
		t.Errorf("script %q of a shell that runs none", e.GetScript().GetValue())
	}
}

func memoryFileAndDescriptorAreExecuted(t *testing.T, s *station) {
	content := lasting("memory")
	fd, err := unix.MemfdCreate("hidden", 0)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "memory")
	defer memory.Close()
	if _, err := memory.Write(content); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * racy)
	s.want(stay(t, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil), content)
	byDescriptor := lasting("descriptor")
	file, err := os.Open(write(t, t.TempDir(), "program", byDescriptor))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("/dev/fd/3")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	s.want(cmd.Process.Pid, byDescriptor)
}

func setuidProgramAndInnerPid(t *testing.T, s *station) {
	dir := mount(t, "tmpfs", "tmpfs", "mode=755")
	content := lasting("setuid")
	path := write(t, dir, "program", content)
	if err := unix.Chmod(path, 0o4755); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * racy)
	pid := stay(t, path, &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 51000, Gid: 51000}, Cloneflags: syscall.CLONE_NEWPID,
	})
	s.want(pid, content)
	p := s.lineage(s.executions(pid, 1)[0]).Process
	if p.GetRuid() != 51000 || p.GetEuid() != 0 || p.GetInnerPid() != 1 || p.GetId().GetTgid() != uint32(pid) {
		t.Errorf("ruid %d, euid %d, inner pid %d, pid %d", p.GetRuid(), p.GetEuid(), p.GetInnerPid(), p.GetId().GetTgid())
	}
}

func execWithoutForkIsAnotherProgramWithTheSameParent(t *testing.T, s *station) {
	content := quick("without fork")
	path := write(t, t.TempDir(), "sshd", content) // named like another
	pid := run(t, "/bin/sh", "-c", "exec "+path)
	all := s.executions(pid, 2)
	s.want(pid, content)
	shell, inner := s.lineage(all[0]), s.lineage(all[1])
	if !bytes.Equal(shell.Parent.GetExecutable().GetSha256(), inner.Parent.GetExecutable().GetSha256()) || inner.Parent == nil {
		t.Errorf("parents %v and %v", shell.Parent, inner.Parent)
	}
	if got := string(inner.Process.GetExecutable().GetPath().GetValue()); got != path {
		t.Errorf("path %q of a process that calls itself sshd", got)
	}
}

func commandLineChangedAtRunTimeIsAClaim(t *testing.T, s *station) {
	python := need.Program(t, "/usr/bin/python3") // not a wrapper that is earlier in PATH
	const change = `
import ctypes, sys, time
libc = ctypes.CDLL(None)
stat = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
start = int(stat[45])
ctypes.memmove(start, b"/usr/sbin/sshd\0-D\0", 18)
libc.prctl(15, b"sshd")
print("x", flush=True)
time.sleep(60)
`
	cmd := exec.Command(python, "-c", change)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p := s.lineage(s.executions(cmd.Process.Pid, 1)[0]).Process
	if !strings.HasPrefix(string(p.GetCommandLine().GetValue()), python+"\x00-c") || string(p.GetName().GetValue()) != "python3" {
		t.Errorf("as executed: %q %q", p.GetName().GetValue(), p.GetCommandLine().GetValue())
	}
	if got := string(p.GetClaimedCommandLine().GetValue()); !strings.HasPrefix(got, "/usr/sbin/sshd\x00-D") {
		t.Errorf("as claimed: %q", got)
	}
}
