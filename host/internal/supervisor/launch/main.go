package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errRefused marks what the kernel says of a file that it can never execute.
var errRefused = errors.New("not an executable")

// maxSpec bounds what is read from the host, in bytes.
const maxSpec = 1 << 20

// Main is the launcher's main: args are what follows [Verb]. It returns an exit status only if the plugin could not be
// started; the reason is then in a [Report].
func Main(args []string) int {
	if len(args) == 1 && args[0] == Hold {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	runtime.LockOSThread()
	report := json.NewEncoder(os.NewFile(ReportFD, "report"))
	err := launch(report)
	if report.Encode(Report{Error: err.Error(), Refused: errors.Is(err, errRefused)}) != nil {
		fmt.Fprintln(os.Stderr, "picosnitch "+Verb+" is called by picosnitch itself:", err)
	}
	return 126
}

// launch returns only if it could not, with the reason.
func launch(report *json.Encoder) error {
	spec, err := readSpec()
	if err != nil {
		return err
	}
	var done Report
	if spec.Sandbox != nil {
		if err := done.enter(spec.Sandbox); err != nil {
			return err
		}
	}
	if err := done.limit(spec); err != nil {
		return err
	}
	if err := done.drop(spec.Sandbox); err != nil {
		return err
	}
	if spec.Sandbox != nil {
		if err := errors.Join(done.confine(spec.Sandbox), done.sieve()); err != nil {
			return err
		}
	}
	if err := tie(); err != nil {
		return err
	}
	if err := report.Encode(done); err != nil {
		return fmt.Errorf("report to the host: %w", err)
	}
	return become(spec)
}

func readSpec() (*Spec, error) {
	file := os.NewFile(SpecFD, "spec")
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxSpec))
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	spec := new(Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, fmt.Errorf("decode spec: %w", err)
	}
	if len(spec.Args) == 0 {
		return nil, errors.New("decode spec: no arguments")
	}
	return spec, nil
}

// tie binds this thread, which becomes the plugin, to the life of the host.
func tie() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PDEATHSIG: %w", err)
	}
	// The host holds the other end of standard input. A dying process closes its files before it signals its children:
	// if it is still open here, the signal is yet to come.
	poll := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll standard input: %w", err)
	}
	if poll[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
		return errors.New("the host is gone")
	}
	return nil
}

// become replaces this process by the plugin.
func become(spec *Spec) error {
	first := uint(PluginListenerFD)
	if spec.Listener {
		if err := unix.Dup3(ListenerFD, PluginListenerFD, 0); err != nil {
			return fmt.Errorf("hand over the listener: %w", err)
		}
		first++
	}
	if err := unix.CloseRange(first, 1<<20, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	if spec.Script {
		if _, err := unix.FcntlInt(FileFD, unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("hand the script to its interpreter: %w", err)
		}
	}
	argv, err := syscall.SlicePtrFromStrings(spec.Args)
	if err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	envv, err := syscall.SlicePtrFromStrings(spec.Env)
	if err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	empty, err := unix.BytePtrFromString("")
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	// Not /proc/self/fd/4: the process would be called "4", in ps and in our own rows.
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, FileFD, uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	switch errno {
	case unix.ENOEXEC, unix.EACCES, unix.ENOENT, unix.ELIBBAD:
		return fmt.Errorf("execute %s: %w: %w", spec.Args[0], errRefused, errno)
	}
	return fmt.Errorf("execute %s: %w", spec.Args[0], errno)
}
