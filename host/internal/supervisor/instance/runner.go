package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

// killGrace is how long a killed process may take to end: one in an uninterruptible wait does not end at all.
const killGrace = 5 * time.Second

// launcher is go-plugin's view of the process: runner.Runner.
type launcher struct {
	o     Options
	env   []string // go-plugin's own variables
	dir   string   // of the plugin's socket; made by go-plugin, ours to remove
	tail  *tail
	lines *io.PipeReader // the handshake line, for go-plugin
	words *io.PipeWriter
	read  sync.WaitGroup    // the pipe readers
	host  *net.UnixListener // where the plugin asks the host; nil: nowhere

	mu        sync.Mutex
	proc      *process.Process
	cancelled bool
	handshake error // what was wrong with the first line
	address   string
}

func newLauncher(o Options, env []string, dir string, tail *tail) *launcher {
	l := &launcher{o: o, env: env, dir: dir, tail: tail}
	l.lines, l.words = io.Pipe()
	return l
}

// Start starts the process.
func (l *launcher) Start(ctx context.Context) error {
	options := process.Options{
		Name: l.o.Name, File: l.o.File, Env: append(l.o.environment(), l.env...), Listener: l.o.Listener,
	}
	if !l.o.bounded() {
		options.MemoryMB = l.o.MemoryMB
	}
	if err := l.listen(); err != nil {
		return err
	}
	if s := l.o.Sandbox; s != nil {
		socket, err := l.socketMount(s.UID, s.GID)
		if err != nil {
			return err
		}
		defer func() { _ = socket.Close() }()
		sandbox := *s
		sandbox.Root = l.dir
		sandbox.Mounts = append([]*process.Mount{socket}, s.Mounts...)
		options.Sandbox = &sandbox
	}
	proc, err := process.Start(ctx, l.o.Thread, options)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.proc = proc
	cancelled := l.cancelled
	l.mu.Unlock()
	if cancelled {
		proc.Kill()
	}
	l.read.Go(func() { l.readOutput(proc.Stdout) })
	l.read.Go(func() {
		defer func() { _ = proc.Stderr.Close() }()
		l.tail.read(proc.Stderr)
	})
	return nil
}

// listen makes the plugin's host.sock, while the directory is still the host's alone.
func (l *launcher) listen() error {
	if !l.o.Serve {
		return nil
	}
	path := filepath.Join(l.dir, "host.sock")
	host, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("make host.sock: %w", err)
	}
	l.host = host
	host.SetUnlinkOnClose(false) // the directory is the plugin's by then
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("make host.sock: %w", err)
	}
	if err := os.Lchown(path, int(l.o.uid()), -1); err != nil {
		return fmt.Errorf("make host.sock: %w", err)
	}
	return nil
}

// socketMount gives the socket directory to the plugin and readies it for the sandbox.
func (l *launcher) socketMount(uid, gid uint32) (*process.Mount, error) {
	dir, err := os.Open(l.dir)
	if err != nil {
		return nil, fmt.Errorf("open socket directory: %w", err)
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Chown(int(uid), int(gid)); err != nil {
		return nil, fmt.Errorf("give socket directory to uid %d: %w", uid, err)
	}
	return process.NewMount(dir, l.dir, nil, false)
}

// readOutput hands go-plugin the first line, if it is a handshake, and logs the rest.
func (l *launcher) readOutput(stdout *os.File) {
	defer func() { _ = stdout.Close() }()
	line, rest, err := firstLine(stdout)
	if err == nil {
		err = checkHandshake(line)
	} else if errors.Is(err, errHandshakeLong) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err != nil {
		l.mu.Lock()
		l.handshake = err
		l.mu.Unlock()
		if line != "" {
			l.tail.take([]byte(line), false)
		}
	} else {
		_, _ = io.WriteString(l.words, line+"\n") // fails when go-plugin has given up
	}
	_ = l.words.Close()
	l.tail.read(rest)
}

// process is nil before Start.
func (l *launcher) process() *process.Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proc
}

// refused is what was wrong with the handshake: wraps ErrProtocol, or nil.
func (l *launcher) refused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.handshake, ErrProtocol) {
		return l.handshake
	}
	return nil
}

// cancel kills the process, also one that Start is about to start.
func (l *launcher) cancel() {
	l.mu.Lock()
	l.cancelled = true
	proc := l.proc
	l.mu.Unlock()
	if proc != nil {
		proc.Kill()
	}
}

// Wait returns when the process has ended.
func (l *launcher) Wait(context.Context) error {
	proc := l.process()
	<-proc.Done()
	return nil
}

// Kill ends the process and all that belongs to it.
func (l *launcher) Kill(ctx context.Context) error {
	proc := l.process()
	if proc == nil {
		return nil
	}
	proc.Kill()
	ctx, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	select {
	case <-proc.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill process %d: it does not end", proc.PID())
	}
}

// PluginToHost checks the address that the host is to dial.
func (l *launcher) PluginToHost(network, address string) (string, string, error) {
	if err := checkAddress(network, address, l.dir, l.o.uid()); err != nil {
		l.mu.Lock()
		l.handshake = err
		l.mu.Unlock()
		return "", "", err
	}
	l.mu.Lock()
	l.address = address
	l.mu.Unlock()
	return network, address, nil
}

// HostToPlugin is for the broker, which is off.
func (l *launcher) HostToPlugin(string, string) (string, string, error) {
	return "", "", errors.New("the broker is not used")
}

// Stdout is the handshake line and nothing else.
func (l *launcher) Stdout() io.ReadCloser { return l.lines }

// Stderr is empty: go-plugin's reader panics on odd lines, ours does not.
func (l *launcher) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the plugin's.
func (l *launcher) Name() string { return l.o.Name }

// ID is the process id, "" before Start.
func (l *launcher) ID() string {
	if proc := l.process(); proc != nil {
		return strconv.Itoa(proc.PID())
	}
	return ""
}

// Diagnose is empty: the forensics are ours.
func (l *launcher) Diagnose(context.Context) string { return "" }
