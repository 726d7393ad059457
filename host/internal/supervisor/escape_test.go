package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// escapeBinary is test/escape, built by the first test that needs it and removed by TestMain.
var escapeBinary struct {
	once sync.Once
	dir  string // to be removed; "" if nothing was built
	path string
	err  error
}

// escapePlugin is its path. Where there is no compiler, PICOSNITCH_ESCAPE names it.
func escapePlugin() (string, error) {
	b := &escapeBinary
	b.once.Do(func() {
		if b.path = os.Getenv("PICOSNITCH_ESCAPE"); b.path != "" {
			return
		}
		if b.dir, b.err = os.MkdirTemp("", "psescape"); b.err != nil {
			return
		}
		b.path = filepath.Join(b.dir, "escape")
		out, err := exec.Command("go", "build", "-o", b.path, "../../../test/escape").CombinedOutput()
		if b.err = errors.Join(err, os.Chmod(b.dir, 0o755)); b.err != nil {
			b.err = fmt.Errorf("build test/escape: %w\n%s", b.err, out)
		}
	})
	return b.path, b.err
}

// escapeMB bounds the plugin, which is built without the race detector whatever the tests are.
const escapeMB = 128

// escaping is a plugin with somewhere to escape to.
type escaping struct {
	*rig
	spec    Spec
	targets map[string]any
	udp     net.PacketConn
	master  *os.File // of the terminal
}

// target makes all that the plugin is not to reach: real files, sockets, a process and a terminal.
func target(t *testing.T, mode string) *escaping {
	t.Helper()
	needRoot(t)
	path, err := escapePlugin()
	if err != nil {
		t.Fatal(err)
	}
	config := tempDir(t, someone)
	e := &escaping{spec: Spec{Name: "escape", Path: path, Owner: someone, Directory: filepath.Join(config, "escape"), MemoryMB: escapeMB}}
	state := tempDir(t, someone)
	secrets := map[string]string{"read /etc/shadow": "/etc/shadow"}
	for name, file := range map[string]string{
		"read the journal": filepath.Join(state, "journal"), "read config.json": filepath.Join(config, "config.json"),
		"read another plugin's file": filepath.Join(config, "snitch.db"),
	} {
		if err := os.WriteFile(file, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
		secrets[name] = file
	}
	sockets := map[string]string{}
	for _, name := range []string{"docker.sock", "the host's socket"} {
		socket := filepath.Join(state, fmt.Sprint(len(sockets)))
		listenAt(t, "unix", socket)
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
		sockets[name] = socket
	}
	abstract := filepath.Base(state)
	listenAt(t, "unix", "@"+abstract)
	if e.udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.udp.Close() })
	device := e.terminal(t)
	e.targets = map[string]any{
		"Mode": mode, "Directory": e.spec.Directory, "Secrets": secrets, "Sockets": sockets, "Abstract": abstract,
		"TCP": listenAt(t, "tcp4", "127.0.0.1:0").String(), "UDP": e.udp.LocalAddr().String(),
		"Process": victim(t), "Device": device,
	}
	return e
}

func listenAt(t *testing.T, network, address string) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr()
}

// victim is a process of the host's.
func victim(t *testing.T) int {
	t.Helper()
	command := exec.Command("/bin/sleep", "600")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	return command.Process.Pid
}

// terminal makes a pseudo terminal that anybody may write to.
func (e *escaping) terminal(t *testing.T) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	e.master = master
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	path := "/dev/pts/" + strconv.Itoa(number)
	if err = errors.Join(err, os.Chmod(path, 0o622)); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs the plugin with uids of the slot.
func (e *escaping) start(t *testing.T, n uint32) *escaping {
	t.Helper()
	config, err := json.Marshal(e.targets)
	if err != nil {
		t.Fatal(err)
	}
	e.spec.Config = config
	e.rig = run(t, slot(n), e.spec)
	return e
}

// results is the plugin's report.
func (e *escaping) results(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.spec.Directory, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var results map[string]string
	if err := json.Unmarshal(text, &results); err != nil {
		t.Fatal(err)
	}
	return results
}

// walls says by which mechanism each attempt fails, and how that shows. docs/security.md has the same table.
func walls() map[string]string {
	const (
		absent = "no such file or directory" // mount namespace: the plugin's root does not have it
		denied = "operation not permitted"   // seccomp, or no capability
	)
	return map[string]string{
		"read /etc/shadow":           absent,
		"read the journal":           absent,
		"read config.json":           absent,
		"read another plugin's file": absent,
		"docker.sock":                absent,
		"the host's socket":          absent,
		"terminal":                   absent,
		"abstract socket":            "connection refused", // network namespace; Landlock, too
		"connect TCP":                "permission denied",  // Landlock; the network namespace has nobody there either
		"send UDP":                   "network is unreachable",
		"become root":                denied,
		"gain capabilities":          denied,
		"io_uring":                   denied,
		"kernel keys":                denied,
		"leave the cgroup":           "no control groups are seen, mount: " + denied,
		"load BPF":                   denied,
		"make a device":              "permission denied", // Landlock; no capability either
		"mount":                      denied,
		"new user namespace":         denied,
		"packet socket":              "address family not supported",
		"ptrace":                     denied,
		"raise limits":               denied,
		"read its memory":            absent, // pid namespace: only its own processes are there
		"signal":                     "no such process",
		"run its own file":           "permission denied",     // noexec
		"write to the system":        "read-only file system", // Landlock, too
	}
}

func TestEscapesFail(t *testing.T) {
	t.Parallel()
	e := target(t, "try").start(t, 40)
	e.awaitState(StateRunning)
	results := e.results(t)
	for name, want := range walls() {
		got, tried := results[name]
		if !tried || got == "" || !strings.Contains(got, want) {
			t.Errorf("%s: tried %v, ended with %q, want %q", name, tried, got, want)
		}
	}
	if len(results) != len(walls()) {
		t.Errorf("%d attempts were made, %d are known", len(results), len(walls()))
	}
	e.nothingArrived(t)
}

// nothingArrived looks where the attempts went.
func (e *escaping) nothingArrived(t *testing.T) {
	t.Helper()
	_ = e.udp.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, from, err := e.udp.ReadFrom(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes came from %v", n, from)
	}
	master := int(e.master.Fd()) // makes it block
	if err := unix.SetNonblock(master, true); err != nil {
		t.Fatal(err)
	}
	if n, _ := unix.Read(master, make([]byte, 64)); n > 0 {
		t.Errorf("%d bytes were written to the terminal", n)
	}
}

// The attempts are real: without the sandbox, as root, they get through.
func TestEscapesSucceedWithoutTheSandbox(t *testing.T) {
	t.Parallel()
	e := target(t, "try")
	if err := os.Mkdir(e.spec.Directory, 0o700); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(e.targets)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(e.spec.Path, "bare", string(config))
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var results map[string]string
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatal(err)
	}
	for name := range walls() {
		if name == "raise limits" && !capable(unix.CAP_SYS_RESOURCE) {
			continue // not even root may here
		}
		if got, tried := results[name]; !tried || got != "" {
			t.Errorf("%s: tried %v, failed with %q though nothing is in its way", name, tried, got)
		}
	}
}

// capable says whether this process has a capability.
func capable(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	err := unix.Capget(&header, &have[0])
	return err == nil && have[capability/32].Effective&(1<<(capability%32)) != 0
}

func TestOnlyGrantedPeersAreReached(t *testing.T) {
	t.Parallel()
	e := target(t, "network")
	_, port, err := net.SplitHostPort(listenAt(t, "tcp4", "127.0.0.1:0").String())
	if err != nil {
		t.Fatal(err)
	}
	e.targets["Allowed"] = "localhost:" + port
	e.spec.Network = []string{"localhost:" + port}
	e.start(t, 41)
	knocked := make(chan error, 1)
	go func() { knocked <- e.knock() }()
	e.awaitState(StateRunning)
	for name, want := range map[string]string{
		"allowed":         "",
		"connect TCP":     "denied|not permitted", // Landlock, then the programs
		"mapped address":  "denied|not permitted",
		"send UDP":        "operation not permitted",
		"send to":         "operation not permitted",
		"abstract socket": "operation not permitted", // Landlock's scope
		"bind a port":     "denied|not permitted",
		"ping socket":     "denied|not permitted",
		"SCTP":            "not permitted|not supported",
		"other names":     "no such host",
		"be connected to": "nobody came",
	} {
		got, tried := e.results(t)[name]
		matches := slices.ContainsFunc(strings.Split(want, "|"), func(w string) bool { return strings.Contains(got, w) })
		if !tried || (got == "") != (want == "") || !matches {
			t.Errorf("%s: tried %v, ended with %q, want %q", name, tried, got, want)
		}
	}
	if err := <-knocked; err == nil {
		t.Error("it was connected to")
	}
	e.nothingArrived(t)
}

// knock connects to the port on which the plugin listens.
func (e *escaping) knock() error {
	path := filepath.Join(e.spec.Directory, "report.json")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var found struct{ Port string }
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &found) != nil || found.Port == "" {
			continue
		}
		conn, err := net.DialTimeout("tcp4", "127.0.0.1:"+found.Port, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return errors.New("it never listened")
}
