package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// askVariable makes the test binary a client of the run directory that it names.
const askVariable = "PICOSNITCH_TEST_ASK"

// serveVariable makes it a daemon, until its standard input ends.
const serveVariable = "PICOSNITCH_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(askVariable); dir != "" {
		if err := json.NewEncoder(os.Stdout).Encode(askAll(dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(serveVariable); dir != "" {
		s, err := Listen(Options{RunDir: dir}, &fake{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = s.Close(context.Background())
		return
	}
	goleak.VerifyTestMain(m)
}

// answers are what one person gets.
type answers struct {
	Dial, Status, Plugins, Query string // errors

	Messages  []string
	ConfigDir string
	Counters  map[string]uint64
	Names     []string
	Rows      int

	More map[string]string // call -> error, of what fake cannot do
}

func askAll(dir string) answers {
	var a answers
	c, err := Dial(dir)
	if err != nil {
		a.Dial = err.Error()
		return a
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := c.Status(ctx)
	a.Status = text(err)
	a.Messages, a.ConfigDir, a.Counters = s.GetMessages(), s.GetConfigDir(), s.GetCounters()
	plugins, err := c.Plugins(ctx)
	a.Plugins = text(err)
	for _, p := range plugins {
		a.Names = append(a.Names, p.GetName())
	}
	a.Query = text(c.Query(ctx, "", &wire.Query{}, func(p *wire.QueryPage) error {
		a.Rows += len(p.GetRows())
		return nil
	}))
	a.More = askMore(ctx, c)
	return a
}

// askMore tries what not every Backend can do.
func askMore(ctx context.Context, c *Client) map[string]string {
	_, control := c.Control(ctx, "sqlite", wire.ControlRequest_RESTART)
	_, logs := c.PluginLog(ctx, "sqlite")
	return map[string]string{
		"watch":   text(c.Watch(ctx, &wire.WatchRequest{}, func(*wire.WatchPage) error { return nil })),
		"control": text(control), "log": text(logs),
		"export":  text(c.Keeper().Export(ctx, &wire.ExportRequest{}, io.Discard)),
		"check":   text(c.Keeper().Check(ctx, "", func(*wire.CheckPage) error { return nil })),
		"compact": text(c.Keeper().Compact(ctx, "", func(*wire.CompactProgress) error { return nil })),
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// askAs lets another user ask.
func askAs(t *testing.T, dir string, uid, gid uint32, groups ...uint32) answers {
	t.Helper()
	cmd := selfAs(t, uid, gid, groups...)
	cmd.Env = []string{askVariable + "=" + dir}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask as uid %d: %v", uid, err)
	}
	var a answers
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("answers %q: %v", out, err)
	}
	return a
}

// fakeDaemonAs lets another user serve dir until the test ends.
func fakeDaemonAs(t *testing.T, dir string, uid uint32) {
	t.Helper()
	cmd := selfAs(t, uid, uid)
	cmd.Env = []string{serveVariable + "=" + dir}
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("serve as uid %d: %q, %v", uid, line, err)
	}
}

// selfAs prepares the test binary, which may lie where other users cannot get: the kernel's link to it needs no path.
func selfAs(t *testing.T, uid, gid uint32, groups ...uint32) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	return cmd
}

// runDir is a directory that every user can reach.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "picosnitch-api-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fake is a Backend.
type fake struct {
	query func(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error
	panic bool
}

func (f *fake) Status() *wire.StatusResponse {
	if f.panic {
		panic("status\x1b[31m")
	}
	return &wire.StatusResponse{
		Pid: 42, Version: "2", Started: 7, Degraded: true, ConfigDir: "/home/ada/.config/picosnitch",
		Messages: []string{"/home/ada/tool could not be hashed"}, Counters: map[string]uint64{"events lost": 3},
	}
}

func (f *fake) Plugins() []*wire.PluginStatus { return []*wire.PluginStatus{{Name: "sqlite"}} }

func (f *fake) Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	if f.query != nil {
		return f.query(ctx, store, q, page)
	}
	for range 3 {
		if err := page(&wire.QueryPage{Rows: []*wire.QueryRow{{}, {}}}); err != nil {
			return err
		}
	}
	return nil
}

// serve runs a server until the test ends.
func serve(t *testing.T, o Options, b Backend) {
	t.Helper()
	s, err := Listen(o, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

func dial(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
