package api

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

const (
	ownerUID = 64101
	otherUID = 64102
	groupGID = 64103
)

func groupFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "group")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhoGetsWhichAnswers(t *testing.T) {
	t.Parallel()
	need.Root(t, "become other users")
	dir := runDir(t)
	serve(t, Options{RunDir: dir, Owner: ownerUID, Group: "picosnitch", Groups: groupFile(t, "root:x:0:\npicosnitch:x:64103:ada\n")}, &fake{})
	everything := answers{
		Messages: []string{"/home/ada/tool could not be hashed"}, ConfigDir: "/home/ada/.config/picosnitch",
		Counters: map[string]uint64{"events lost": 3}, Names: []string{"sqlite"}, Rows: 6,
	}
	const to = " to root, the owner of the configuration and members of group picosnitch; you are uid 64102"
	little := answers{
		Messages: []string{"what is wrong is told to root, the owner of the configuration and members of group picosnitch"},
		Counters: map[string]uint64{"events lost": 3},
		Plugins:  "permission denied: plugins are shown" + to,
		Query:    "permission denied: history is shown" + to,
	}
	for _, c := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		want     answers
	}{
		{"root", 0, 0, nil, everything},
		{"owner", ownerUID, ownerUID, nil, everything},
		{"primary group", otherUID, groupGID, nil, everything},
		{"supplementary group", otherUID, otherUID, []uint32{64110, groupGID}, everything},
		{"many groups", otherUID, otherUID, manyGroups(groupGID), everything},
		{"stranger", otherUID, otherUID, []uint32{64110}, little},
		{"stranger in group root", otherUID, 0, nil, little},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := askAs(t, dir, c.uid, c.gid, c.groups...)
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(answers{}, "More")); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

// manyGroups are more than the first guess holds.
func manyGroups(last uint32) []uint32 {
	var groups []uint32
	for g := range uint32(200) {
		groups = append(groups, 70000+g)
	}
	return append(groups, last)
}

func TestNoGroupMeansNobodyIsInIt(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "picosnitch\n", "picosnitch:x:0:\n", "picosnitch:x:many:\n", "picosnitchers:x:7:\n"} {
		a := newAccess(ownerUID, groupFile(t, content), "picosnitch")
		if a.trusts(&person{uid: otherUID, groups: []uint32{0, 7}}) {
			t.Errorf("with the group file %q a stranger is trusted", content)
		}
	}
	if newAccess(ownerUID, "/nonexistent", "picosnitch").trusts(nil) {
		t.Error("nobody is trusted")
	}
}

func TestQueryErrorsReachTheClientInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want string
		is   error
	}{
		{"question", status.Error(codes.InvalidArgument, "query: there is no column \"x\""), `there is no column "x"`, ErrQuestion},
		{"plugin", status.Error(codes.Unknown, "query: read rows: disk"), "read rows: disk", nil},
		{"no store", errors.New("no store is running: see picosnitch plugins"), "no store is running: see picosnitch plugins", nil},
		{"hostile", errors.New("a\x1b[2J\nb\xff"), "a [2J b ", nil},
		{"long", errors.New(strings.Repeat("x", 9000)), strings.Repeat("x", maxErrorText) + "...", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := runDir(t)
			serve(t, Options{RunDir: dir}, &fake{query: func(context.Context, string, *wire.Query, func(*wire.QueryPage) error) error {
				return c.err
			}})
			err := dial(t, dir).Query(t.Context(), "", &wire.Query{}, func(*wire.QueryPage) error { return nil })
			if text(err) != c.want || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %q, want %q", text(err), c.want)
			}
		})
	}
}

func TestPanicIsAnErrorAndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	serve(t, Options{RunDir: dir}, &fake{panic: true, query: func(context.Context, string, *wire.Query, func(*wire.QueryPage) error) error {
		panic("query")
	}})
	c := dial(t, dir)
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "made a mistake") {
		t.Errorf("status: %v", err)
	}
	if err := c.Query(t.Context(), "", nil, nil); err == nil || !strings.Contains(err.Error(), "made a mistake") {
		t.Errorf("query: %v", err)
	}
	if plugins, err := c.Plugins(t.Context()); err != nil || len(plugins) != 1 {
		t.Errorf("plugins after panics: %v, %v", plugins, err)
	}
}

func TestNinthQueryIsRefused(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	under := make(chan struct{}, maxQueries)
	serve(t, Options{RunDir: dir}, &fake{query: func(ctx context.Context, _ string, _ *wire.Query, _ func(*wire.QueryPage) error) error {
		under <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}})
	c := dial(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, maxQueries)
	for range maxQueries {
		go func() { ended <- c.Query(ctx, "", nil, nil) }()
	}
	for range maxQueries {
		<-under
	}
	if err := c.Query(t.Context(), "", nil, nil); err == nil || !strings.Contains(err.Error(), "try again later") {
		t.Errorf("ninth query: %v", err)
	}
	cancel()
	for range maxQueries {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled query: %v", err)
		}
	}
}

func TestClientMayStopInTheMiddle(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	ended := make(chan error, 1)
	serve(t, Options{RunDir: dir}, &fake{query: func(ctx context.Context, _ string, _ *wire.Query, page func(*wire.QueryPage) error) error {
		for {
			if err := page(&wire.QueryPage{Rows: []*wire.QueryRow{{}}}); err != nil {
				ended <- err
				return err
			}
		}
	}})
	enough := errors.New("enough")
	if err := dial(t, dir).Query(t.Context(), "", nil, func(*wire.QueryPage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("query: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the backend was not told that the client has gone")
	}
}

func TestCloseCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	under := make(chan struct{})
	s, err := Listen(Options{RunDir: dir}, &fake{query: func(ctx context.Context, _ string, _ *wire.Query, _ func(*wire.QueryPage) error) error {
		close(under)
		<-ctx.Done()
		return ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	c := dial(t, dir)
	go func() { ended <- c.Query(t.Context(), "", nil, nil) }()
	<-under
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the query ended as if it had been answered")
	}
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial after close: %v", err)
	}
}

func TestSocketOfADeadDaemonIsReplaced(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dial: %v, want ErrNotRunning", err)
	}
	serve(t, Options{RunDir: dir}, &fake{})
	if s, err := dial(t, dir).Status(t.Context()); err != nil || s.GetPid() != 42 {
		t.Errorf("status: %v, %v", s, err)
	}
}

func TestADaemonThatSaysNothingIsCalledSilent(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(net.Conn){"hangs": func(net.Conn) {}, "hangs up": func(c net.Conn) { _ = c.Close() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := runDir(t)
			l, err := net.Listen("unix", filepath.Join(dir, SocketName))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			go func() { // ends with the listener
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					answer(c)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := dial(t, dir).Status(ctx); !errors.Is(err, ErrSilent) {
				t.Errorf("status: %v, want ErrSilent", err)
			}
		})
	}
}

func TestFakeDaemonOfAnotherUserIsNotBelieved(t *testing.T) {
	t.Parallel()
	need.Root(t, "become other users")
	dir := runDir(t)
	if err := os.Chown(dir, otherUID, otherUID); err != nil {
		t.Fatal(err)
	}
	fakeDaemonAs(t, dir, otherUID)
	conn, err := net.Dial("unix", filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, _, err := (kernelCredentials{}).ClientHandshake(t.Context(), "", conn); err == nil {
		t.Error("the handshake succeeds")
	}
	if got := askAs(t, dir, otherUID, otherUID); got.Status != "" {
		t.Errorf("its own user: %q", got.Status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := dial(t, dir).Status(ctx); err == nil || !strings.Contains(err.Error(), "uid 64102") {
		t.Errorf("status of a fake daemon: %v", err)
	}
}

func TestOneUserCannotUseUpTheConnections(t *testing.T) {
	t.Parallel()
	l := newListener(nil)
	for n := range maxConnectionsOfUser {
		if !l.enter(ownerUID) {
			t.Fatalf("connection %d refused", n+1)
		}
	}
	if l.enter(ownerUID) {
		t.Error("one connection too many")
	}
	if !l.enter(otherUID) || !l.enter(0) {
		t.Error("others are shut out")
	}
	l.leave(ownerUID)
	if !l.enter(ownerUID) {
		t.Error("refused after one was closed")
	}
	for uid := range uint32(maxConnections) {
		l.enter(70000 + uid)
	}
	if l.enter(otherUID) || !l.enter(0) {
		t.Error("bound of all: others get in, or root does not")
	}
}

func TestRunDirectoryOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	need.Root(t, "become other users")
	for _, c := range []struct {
		name, want string
		spoil      func(dir string) error
	}{
		{"owner", "belongs to uid 64102", func(dir string) error { return os.Chown(dir, otherUID, otherUID) }},
		{"writable", "others can write", func(dir string) error { return os.Chmod(dir, 0o777) }},
		{"link", "is no directory", func(dir string) error {
			return errors.Join(os.Remove(dir), os.Symlink("/tmp", dir))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(runDir(t), "run")
			if err := MakeRunDir(dir); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if err := MakeRunDir(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRunDirectoryTooLongForASocketIsNamed(t *testing.T) {
	t.Parallel()
	if _, err := Dial("/" + strings.Repeat("x", 120)); err == nil || !strings.Contains(err.Error(), "--run-dir") {
		t.Errorf("got %v", err)
	}
}
