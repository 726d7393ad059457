package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/sdk/dial"
)

// connectTime is allowed for the connection, on top of the handshake.
const connectTime = 2 * time.Second

// Options say what to start.
type Options struct {
	Name      string
	File      *executable.File // stays the caller's, needed until Start returns
	Thread    *process.Thread
	Sandbox   *process.Sandbox // Root is filled in; nil: a plain child of the caller's own uid
	SocketDir string           // existing directory, for this plugin's sockets only
	MemoryMB  int              // that it may use: it is told; 0: no limit
	Listener  *os.File         // a listening socket for the plugin; stays the caller's; nil: none
	Serve     bool             // make a socket on which the plugin can ask the host, see HostListener
	Log       *slog.Logger     // gets the plugin's lines
	Timeout   time.Duration    // for the handshake; 0: 10 s
}

// uid is who the plugin will be.
func (o Options) uid() uint32 {
	if o.Sandbox != nil {
		return o.Sandbox.UID
	}
	return uint32(os.Geteuid())
}

// bounded says whether a control group bounds the plugin's memory, so that no resource limit must.
func (o Options) bounded() bool {
	if o.Sandbox == nil || o.Sandbox.Group == nil {
		return false
	}
	memory, _ := o.Sandbox.Group.Bounds()
	return memory
}

// environment is all that a plugin gets of the host's. Secrets go over the channel, never here.
func (o Options) environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOTRACEBACK=all", "TMPDIR=/tmp"}
	for _, name := range []string{"TZ", "LANG"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	if o.Listener != nil {
		env = append(env, sdk.ListenerVariable+"="+strconv.Itoa(launch.PluginListenerFD))
	}
	if o.MemoryMB > 0 {
		env = append(env, fmt.Sprintf("GOMEMLIMIT=%dMiB", o.MemoryMB*9/10))
	}
	return env
}

// Instance is a plugin that has shaken hands. Nothing is known yet of what it can do.
type Instance struct {
	Client *sdk.Client

	l      *launcher
	plugin *plugin.Client
}

// Start starts a plugin. ctx bounds the start only. A failure leaves nothing behind; its error tells how the process ended
// and its last words, and wraps [ErrProtocol], [executable.ErrRefused] or [process.ErrLaunch] where these apply.
func Start(ctx context.Context, o Options) (*Instance, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout+connectTime)
	defer cancel()
	i := &Instance{}
	log := newTail(o.Log)
	i.plugin = plugin.NewClient(i.config(o, log))
	result := make(chan error, 1)
	go func() { result <- i.connect() }()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		i.l.cancel() // go-plugin has no way to be told
		<-result
		err = ctx.Err()
	}
	if err == nil {
		return i, nil
	}
	err = i.explain(err)
	return nil, errors.Join(err, i.Close())
}

// config is made anew for every start: go-plugin changes what it is given.
func (i *Instance) config(o Options, log *tail) *plugin.ClientConfig {
	l := newLauncher(o, nil, "", log)
	i.l = l
	return &plugin.ClientConfig{
		HandshakeConfig:  dial.Handshake(),
		Plugins:          plugin.PluginSet{dial.PluginName: dial.Plugin()},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     o.Timeout,
		// With any other level go-plugin parses the plugin's lines, and panics on odd ones.
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: discard{}}),
		GRPCDialOptions:  l.dialOptions(),
		SyncStdout:       log,
		SyncStderr:       log,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: o.SocketDir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, dir string) (runner.Runner, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.env, l.dir = cmd.Env, dir
			return l, nil
		},
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// connect starts, dials and dispenses. go-plugin panics where it did not expect what it met.
func (i *Instance) connect() (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: go-plugin: %v", ErrProtocol, cause)
		}
	}()
	if _, err := i.plugin.Start(); err != nil {
		return err
	}
	protocol, err := i.plugin.Client()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	raw, err := protocol.Dispense(dial.PluginName)
	if err != nil {
		return fmt.Errorf("dispense: %w", err)
	}
	client, ok := raw.(*sdk.Client)
	if !ok {
		return fmt.Errorf("dispense: %T is no *sdk.Client", raw)
	}
	i.Client = client
	return nil
}

// explain replaces go-plugin's words by what is known better.
func (i *Instance) explain(err error) error {
	proc := i.l.process()
	if proc == nil {
		return err // the launcher's own words
	}
	if refused := i.l.refused(); refused != nil {
		return refused
	}
	select {
	case <-proc.Done():
		if i.Exit().Signal != syscall.SIGKILL { // not our own doing
			i.l.read.Wait()
			return fmt.Errorf("it ended before it was ready: %s", i.Words())
		}
	default:
	}
	return fmt.Errorf("it was not ready: %s", clean(err.Error()))
}

// HostListener is the socket on which this plugin, and nobody else, can ask the host; nil without Options.Serve. The
// instance closes it.
func (i *Instance) HostListener() net.Listener {
	if i.l.host == nil {
		return nil
	}
	return i.l.host
}

// HostSocket is its path as the plugin sees it, or "".
func (i *Instance) HostSocket() string {
	if i.l.host == nil {
		return ""
	}
	return i.l.host.Addr().String()
}

// PID is the process id as the host sees it.
func (i *Instance) PID() int { return i.l.process().PID() }

// Sandbox tells in words what was enforced, and what could not be.
func (i *Instance) Sandbox() (enforced, missing []string) { return i.l.process().Sandbox() }

// Done is closed when the process has ended.
func (i *Instance) Done() <-chan struct{} { return i.l.process().Done() }

// Exit is how the process ended; valid once Done is closed.
func (i *Instance) Exit() process.Exit { return i.l.process().Exit() }

// Kill ends the process at once, and with it every call that waits for it.
func (i *Instance) Kill() { i.l.cancel() }

// Quit asks a plugin in Go for its stacks and its end.
func (i *Instance) Quit() { i.l.process().Quit() }

// Tail is the last lines that the plugin wrote, escaped, oldest first, at most n and 200.
func (i *Instance) Tail(n int) []string { return i.l.tail.last(n) }

// Crash is the beginning of a panic or of a stack dump, escaped; empty when there was none.
func (i *Instance) Crash() []string { return i.l.tail.crashed() }

// Words says in one line how the process ended and why, as far as that is known. Valid once Done is closed.
func (i *Instance) Words() string {
	text := i.Exit().String()
	last := i.Crash()
	if len(last) == 0 {
		last = i.Tail(3)
	}
	if len(last) > 3 {
		last = last[:3]
	}
	if len(last) > 0 {
		text += "; it said: " + strings.Join(last, " / ")
	}
	return text[:min(len(text), 2048)]
}

// Close kills the process if it runs, ends the connection and removes the sockets. It must be called once, also after a
// crash. An error says what could not be ended.
func (i *Instance) Close() error {
	var errs []error
	if proc := i.l.process(); proc != nil {
		killed := i.l.Kill(context.Background())
		errs = append(errs, killed, i.release())
		_ = i.l.lines.Close()
		if killed == nil {
			i.l.read.Wait()
		}
	}
	if i.l.host != nil {
		if err := i.l.host.Close(); !errors.Is(err, net.ErrClosed) { // whoever served on it may have closed it
			errs = append(errs, err)
		}
	}
	if i.l.dir != "" {
		errs = append(errs, os.RemoveAll(i.l.dir))
	}
	return errors.Join(errs...)
}

// release lets go-plugin clean up. It blocks for ever if the process does not end, so it is left behind then.
func (i *Instance) release() error {
	released := make(chan struct{})
	go func() {
		defer close(released)
		i.plugin.Kill()
	}()
	timer := time.NewTimer(killGrace)
	defer timer.Stop()
	select {
	case <-released:
		return nil
	case <-timer.C:
		return fmt.Errorf("release process %d: go-plugin still waits for it", i.PID())
	}
}
