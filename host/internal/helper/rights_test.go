package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// held lists the helpers of uid.
func held(t *testing.T, uid int) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if string(line) == "picosnitch\x00"+Verb+"\x00" && strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", uid)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestHelperHasNoRightsInAnyThread(t *testing.T) {
	t.Parallel()
	const uid = 51209
	program, _ := sleeper(t)
	dir, server, _ := mountFUSE(t, uid, program)
	must(t, server.Process.Signal(syscall.SIGSTOP)) // it waits at its first look at the file, confined
	pool := newPool(t, Options{})
	done := hashing(t.Context(), pool, request(uid, dir+"/program"))
	var pids []int
	waitFor(t, "the helper waits", func() bool {
		pids = held(t, uid)
		if len(pids) != 1 {
			return false
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
		return strings.Contains(string(status), "\nSeccomp:\t2\n")
	})
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pids[0]))
	must(t, err)
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		must(t, err)
		for _, want := range []string{
			"Uid:\t51209\t51209\t51209\t51209", "Gid:\t51209\t51209\t51209\t51209", "Groups:\t ", "NoNewPrivs:\t1", "Seccomp:\t2",
			"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
			"CapAmb:\t0000000000000000",
		} {
			if !strings.Contains(string(status), "\n"+want+"\n") {
				t.Errorf("%s lacks %q", task, want)
			}
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pids[0]))
	must(t, err)
	for _, want := range []string{"Max cpu time 61 61", "Max file size 0 0", fmt.Sprintf("Max data size %d", uint64(pool.options.MemoryMB)<<20), "Max core file size 0 0", "Max open files 64 64"} {
		if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), want) {
			t.Errorf("limits lack %q", want)
		}
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pids[0]))
	must(t, err)
	if strings.Contains(string(environment), "PATH=") {
		t.Errorf("environment %q", environment)
	}
	if session, err := unix.Getsid(pids[0]); err != nil || session != pids[0] {
		t.Errorf("session %d, %v", session, err)
	}
	if owner, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pids[0])); err != nil || owner.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("its user may attach to it: %v", err)
	}
	must(t, unix.Kill(pids[0], unix.SIGKILL)) // as its user may
	if err := <-done; !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a killed helper: %v", err)
	}
	if s := pool.Stats(); s.Failed != 1 || s.Running != 0 {
		t.Errorf("%+v", s)
	}
}

func TestHostKeepsItsOwnRights(t *testing.T) {
	t.Parallel()
	newPool(t, Options{})
	dir := write(t, filepath.Join(place(t), "x"), "", 51211, 0o600)
	if _, err := os.ReadFile(dir); err != nil {
		t.Errorf("root lost its rights: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status").Output()
	if err != nil || strings.Contains(string(out), "CapBnd:\t0000000000000000") || !strings.Contains(string(out), "NoNewPrivs:\t0") {
		t.Errorf("other children are without rights: %s, %v", out, err)
	}
}

func TestHelperRefusesToWorkAsRoot(t *testing.T) {
	t.Parallel()
	for name, input := range map[string]string{
		"privileged":     `{"uid":0,"gid":0,"hash":{"path":"L2V0Yy9zaGFkb3c=","max":100000}}`,
		"another's uid":  `{"uid":51212,"gid":51212,"hash":{"path":"L2V0Yy9zaGFkb3c=","max":100000}}`,
		"no order":       ``,
		"no JSON at all": `x`,
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", Verb)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || len(out) > 0 || len(exit.Stderr) == 0 {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// confinedVerb makes the test binary confine itself and try what it then must not.
const confinedVerb = "confined"

// tryForbidden prints what was possible.
func tryForbidden(args []string) int {
	file, n := args[0], needs{programs: args[1] == "run", resolver: args[1] == "ask"}
	if err := errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), confine(n)); err != nil {
		fmt.Println(err)
		return 1
	}
	_, err := net.DialTimeout("tcp4", "127.0.0.1:1", time.Second)
	report("tcp", tried(err))
	_, err = net.DialTimeout("udp6", "[::1]:1", time.Second)
	report("udp", tried(err))
	_, err = net.ListenPacket("udp4", "127.0.0.1:0")
	report("bind", err)
	for _, kind := range [][2]int{{unix.AF_UNIX, unix.SOCK_STREAM}, {unix.AF_NETLINK, unix.SOCK_RAW}, {unix.AF_INET, unix.SOCK_SEQPACKET}} {
		_, err = unix.Socket(kind[0], kind[1]|unix.SOCK_CLOEXEC, 0)
		report(fmt.Sprint("socket ", kind), err)
	}
	report("remove", os.Remove(file))
	report("chmod", os.Chmod(file, 0o777))
	report("unshare", unix.Unshare(unix.CLONE_NEWUSER))
	report("run", exec.CommandContext(context.Background(), "/bin/true").Run())
	done := make(chan bool)
	for range 4 {
		go func() { time.Sleep(time.Millisecond); done <- true }()
	}
	for range 4 {
		<-done // threads are still made
	}
	_, err = os.ReadFile(file)
	report("read", err)
	return 0
}

// tried is nil if the peer itself refused.
func tried(err error) error {
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return err
}

func report(what string, err error) { fmt.Println(what, err == nil, errors.Is(err, unix.EPERM)) }

func TestConfinedProcessCanReadAndNotMuchElse(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(place(t), "x"), "", 0, 0o644)
	const no, yes = " false true\n", " true false\n"
	for mode, c := range map[string]struct{ internet, run string }{"": {no, no}, "run": {no, yes}, "ask": {yes, no}} {
		out, err := exec.CommandContext(t.Context(), "/proc/self/exe", confinedVerb, file, mode).CombinedOutput()
		must(t, err)
		want := "tcp" + c.internet + "udp" + c.internet + "bind" + no + "socket [1 1]" + no + "socket [16 3]" + no + "socket [2 5]" + no +
			"remove" + no + "chmod" + no + "unshare" + no + "run" + c.run + "read" + yes
		if string(out) != want {
			t.Errorf("mode %q: got\n%s\nwant\n%s", mode, out, want)
		}
	}
}

// holderVerb makes the test binary a host with one helper at work.
const holderVerb = "holder"

func holdHelper(path string) int {
	pool, err := New(Options{MemoryMB: memoryMB})
	if err != nil {
		return 1
	}
	_, err = pool.Hash(context.Background(), request(51213, path))
	fmt.Println(err)
	return 0
}

func TestHelperEndsWithTheHost(t *testing.T) {
	t.Parallel()
	const uid = 51213
	program, _ := sleeper(t)
	dir, server, _ := mountFUSE(t, uid, program)
	must(t, server.Process.Signal(syscall.SIGSTOP))
	host := exec.CommandContext(t.Context(), "/proc/self/exe", holderVerb, dir+"/program")
	must(t, host.Start())
	t.Cleanup(func() { end(host) })
	waitFor(t, "a helper runs", func() bool { return len(held(t, uid)) == 1 })
	must(t, host.Process.Kill())
	waitFor(t, "no helper runs", func() bool { return len(held(t, uid)) == 0 })
}

func TestPathIsLookedUpInsideTheProcesssRoot(t *testing.T) {
	t.Parallel()
	root := place(t)
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(root+"/program", program, 0o755)) // the root of the process is here, and the host has no /program
	write(t, root+"/inside", "inside", 0, 0o644)
	must(t, os.Symlink("/inside", root+"/link"))
	must(t, os.Symlink("/../../../../inside", root+"/up"))
	must(t, os.Symlink("/proc/self/exe", root+"/magic"))
	cmd := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	mountNamespace(t, cmd, root)
	below := fmt.Sprintf("/proc/%d/root", cmd.Process.Pid)
	for path, want := range map[string]string{"/inside": "inside", "/link": "inside", "/up": "inside", "/../inside": "inside", "/magic": ""} {
		o := hashOrder{Path: []byte(path), MaxBytes: limitBytes}
		fd, err := reopen(o.findBelow(below))
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		got := make([]byte, 16)
		n, _ := unix.Read(fd, got)
		_ = unix.Close(fd)
		if string(got[:n]) != want {
			t.Errorf("%s: %q", path, got[:n])
		}
	}
}

// mountNamespace starts a process whose root is another one.
func mountNamespace(t *testing.T, cmd *exec.Cmd, root string) {
	t.Helper()
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr"} {
		must(t, os.MkdirAll(root+dir, 0o755))
	}
	script := fmt.Sprintf("mount --make-rprivate / && for d in /usr /lib /lib64 /bin; do mount --rbind $d %s$d; done && exec chroot %s /bin/sleep 600", root, root)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	must(t, cmd.Start())
	t.Cleanup(func() { end(cmd) })
	waitFor(t, "the process runs inside", func() bool {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
		return strings.HasSuffix(exe, "/sleep") && func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/%d/root/inside", cmd.Process.Pid))
			return err == nil
		}()
	})
}
