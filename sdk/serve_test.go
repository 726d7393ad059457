package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// deadline is long: the machine may be busy. Nothing waits for it but a failure.
const deadline = 30 * time.Second

// command is the test binary as a plugin, with the host's cookie or without it.
func command(t *testing.T, plugin string, cookie bool, arguments ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], arguments...)
	cmd.Env = []string{asPlugin + "=" + plugin, "PLUGIN_UNIX_SOCKET_DIR=" + shortDir(t)}
	if cookie {
		cmd.Env = append(cmd.Env, sdk.CookieKey+"="+sdk.CookieValue)
	}
	return cmd
}

// shortDir is a directory whose name leaves room for a socket's: 107 bytes in all.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sdk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run gives the exit status and what was written.
func run(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if failure := cmd.Run(); failure != nil && !errors.As(failure, &exit) {
		t.Fatal(failure)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func TestManifestIsPrintedWithoutHandshake(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, command(t, "store", false, "manifest"))
	const want = `{
  "name": "file",
  "version": "1",
  "wire": 1,
  "kinds": [
    "sink",
    "store"
  ],
  "features": [
    "tests"
  ],
  "needs": {
    "memory_mb": 64
  },
  "config_schema": {
    "type": "object"
  }
}
`
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("status %d, standard error %q, standard output:\n%s\nwant 0, none and\n%s", code, stderr, stdout, want)
	}
}

func TestAPersonWhoStartsAPluginIsToldWhatItIs(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, command(t, "store", false))
	if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "file 1 is a plugin of picosnitch.") || !strings.Contains(stderr, " manifest\n") {
		t.Errorf("status %d, standard output %q, standard error:\n%s", code, stdout, stderr)
	}
}

func TestAPluginThatCannotStartSaysWhyInOneLine(t *testing.T) {
	t.Parallel()
	noDirectory := command(t, "store", true)
	noDirectory.Env = append(noDirectory.Env, "PLUGIN_UNIX_SOCKET_DIR=/nonexistent")
	for name, test := range map[string]struct {
		cmd   *exec.Cmd
		words string
	}{
		"panic":               {command(t, "panics at start", true), "no name today"},
		"bad description":     {command(t, "nameless", true), "want lower-case letters"},
		"bad manifest":        {command(t, "nameless", false, "manifest"), "want lower-case letters"},
		"no socket directory": {noDirectory, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, test.cmd)
			var line map[string]any
			if err := json.Unmarshal([]byte(stderr), &line); err != nil || line["level"] != "ERROR" {
				t.Errorf("want one line of JSON, got (%v):\n%s", err, stderr)
			}
			if code != 1 || stdout != "" || !strings.Contains(stderr, test.words) {
				t.Errorf("status %d, standard output %q, standard error %q; want 1, none, something with %q", code, stdout, stderr, test.words)
			}
		})
	}
}

// served starts a plugin, waits for its handshake and configures it with the directory.
func served(t *testing.T, plugin string, stdin *os.File, directory string) (cmd *exec.Cmd, exited <-chan error) {
	t.Helper()
	cmd = command(t, plugin, true)
	cmd.Stdin = stdin
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "1|1|unix|") {
		t.Fatalf("handshake %q, %v", line, err)
	}
	configure(t, strings.Split(line, "|")[3], directory)
	done := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, out)
		done <- cmd.Wait()
	}()
	return cmd, done
}

func configure(t *testing.T, socket, directory string) {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if _, err := wire.NewPluginClient(conn).Configure(ctx, &wire.ConfigureRequest{
		HostId: make([]byte, 16), BootId: make([]byte, 16), Epoch: make([]byte, 16), Directory: directory,
	}); err != nil {
		t.Fatalf("configure: %v", err)
	}
}

func TestThePluginEndsWithItsHostAndNotBefore(t *testing.T) {
	t.Parallel()
	stdin, host, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	directory := t.TempDir()
	cmd, exited := served(t, "store", stdin, directory)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-exited:
		t.Fatalf("ended while the host lived: %v", err)
	case <-time.After(100 * time.Millisecond): // long enough for a signal that kills
	}
	host.Close()
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("end: %v", err)
		}
	case <-time.After(deadline):
		_ = cmd.Process.Kill()
		t.Fatal("still there although its standard input ended")
	}
	if _, err := os.Stat(filepath.Join(directory, "drained")); err != nil {
		t.Errorf("not drained: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(strings.TrimPrefix(cmd.Env[1], "PLUGIN_UNIX_SOCKET_DIR="), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAnEmptyStandardInputThatIsNoPipeSaysNothing(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd, exited := served(t, "store", null, t.TempDir())
	select {
	case err := <-exited:
		t.Fatalf("ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-exited
}

func TestAPluginWhoseInterfaceEndedExitsAsFailed(t *testing.T) {
	t.Parallel()
	stdin, host, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer host.Close()
	directory := t.TempDir()
	cmd, exited := served(t, "closing", stdin, directory)
	if err := os.WriteFile(filepath.Join(directory, "close"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("end: %v, want exit status 1", err)
		}
	case <-time.After(deadline):
		_ = cmd.Process.Kill()
		t.Fatal("still there although its interface ended")
	}
}
