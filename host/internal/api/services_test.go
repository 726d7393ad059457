package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// able is a Backend that can do everything. Its plugin is a gRPC server of its own.
type able struct {
	fake
	plugin *sdk.Client
	used   chan string // kind and name of what was used
}

func (a *able) Watch(ctx context.Context, r *wire.WatchRequest, page func(*wire.WatchPage) error) error {
	if r.GetInterval() == 1 {
		return errors.Join(ErrQuestion, errors.New("too often"))
	}
	for i := range int64(3) {
		if err := page(&wire.WatchPage{Time: i}); err != nil {
			return err
		}
	}
	if r.GetInterval() == 2 {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (a *able) Control(_ context.Context, r *wire.ControlRequest) (string, error) {
	if r.GetPlugin() != "sqlite" {
		return "", errors.Join(ErrQuestion, errors.New("no such plugin"))
	}
	return "did " + r.GetAction().String() + "\x1b[2J", nil
}

func (a *able) PluginLog(context.Context, string) (*wire.PluginLogResponse, error) {
	return &wire.PluginLogResponse{Lines: []string{"one", "two"}}, nil
}

func (a *able) OpenExecutable(_ context.Context, sum []byte, piece func([]byte) error) error {
	return errors.Join(piece(sum), piece([]byte("!")))
}

func (a *able) Use(ctx context.Context, kind, name string, call func(context.Context, *sdk.Client) error) error {
	if name == "absent" {
		return errors.New("no plugin is called absent")
	}
	a.used <- kind + " " + name
	return call(ctx, a.plugin)
}

// shelf is a store's Keeper, and a Locator.
type shelf struct {
	wire.UnimplementedKeeperServer
	wire.UnimplementedLocatorServer
	imported chan []byte
	refuse   bool // an import, before its end
}

func (s *shelf) Export(r *wire.ExportRequest, stream grpc.ServerStreamingServer[wire.Piece]) error {
	for _, part := range []string{"a,b\n", r.GetFormat().String(), "\n"} {
		if err := stream.Send(&wire.Piece{Data: []byte(part)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) Import(stream grpc.BidiStreamingServer[wire.ImportPiece, wire.ImportProgress]) error {
	if s.refuse {
		return status.Error(codes.InvalidArgument, "query: this is no database")
	}
	var whole []byte
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		whole = append(whole, piece.GetData()...)
		if err := stream.Send(&wire.ImportProgress{Rows: uint64(len(whole))}); err != nil {
			return err
		}
	}
	s.imported <- whole
	return stream.Send(&wire.ImportProgress{Done: true})
}

func (s *shelf) Check(_ *wire.CheckRequest, stream grpc.ServerStreamingServer[wire.CheckPage]) error {
	return stream.Send(&wire.CheckPage{Findings: []string{"a page is broken"}})
}

func (s *shelf) Locate(_ context.Context, r *wire.LocateRequest) (*wire.LocateResponse, error) {
	return &wire.LocateResponse{Locations: make([]*wire.Location, len(r.GetIps()))}, nil
}

// pluginClient serves a plugin on a socket and connects to it.
func pluginClient(t *testing.T, s *shelf) *sdk.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	wire.RegisterKeeperServer(server, s)
	wire.RegisterLocatorServer(server, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); server.Stop(); <-done })
	return &sdk.Client{Keeper: wire.NewKeeperClient(conn), Locator: wire.NewLocatorClient(conn)}
}

func newAble(t *testing.T, s *shelf) *able {
	t.Helper()
	return &able{plugin: pluginClient(t, s), used: make(chan string, 8)}
}

func TestStoresAreLookedAfterThroughTheDaemon(t *testing.T) {
	t.Parallel()
	dir, s := runDir(t), &shelf{imported: make(chan []byte, 1)}
	b := newAble(t, s)
	serve(t, Options{RunDir: dir}, b)
	k := dial(t, dir).Keeper()

	var out bytes.Buffer
	if err := k.Export(t.Context(), &wire.ExportRequest{Store: "sqlite", Format: wire.ExportFormat_EXPORT_CSV}, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "a,b\nEXPORT_CSV\n" {
		t.Errorf("exported %q", &out)
	}
	if used := <-b.used; used != "store sqlite" {
		t.Errorf("used %q", used)
	}
	file := bytes.Repeat([]byte("0123456789"), 100_000)
	var rows uint64
	var done bool
	err := k.Import(t.Context(), "", "old.db", uint64(len(file)), bytes.NewReader(file), func(p *wire.ImportProgress) error {
		rows, done = max(rows, p.GetRows()), p.GetDone()
		return nil
	})
	if err != nil || rows != uint64(len(file)) || !done || !bytes.Equal(<-s.imported, file) {
		t.Errorf("import: %v, %d bytes, done %v", err, rows, done)
	}
	var findings []string
	if err := k.Check(t.Context(), "", func(p *wire.CheckPage) error {
		findings = append(findings, p.GetFindings()...)
		return nil
	}); err != nil || len(findings) != 1 {
		t.Errorf("check: %v, %q", err, findings)
	}
	err = k.Compact(t.Context(), "", func(*wire.CompactProgress) error { return nil })
	if err == nil || err.Error() != "the plugin does not offer it" {
		t.Errorf("what the store lacks: %v", err)
	}
	if err := k.Export(t.Context(), &wire.ExportRequest{Store: "absent"}, &out); err == nil || err.Error() != "no plugin is called absent" {
		t.Errorf("no such store: %v", err)
	}
}

func TestAnImportEndsWhenTheStoreOrTheFileDoes(t *testing.T) {
	t.Parallel()
	dir, s := runDir(t), &shelf{imported: make(chan []byte, 1), refuse: true}
	serve(t, Options{RunDir: dir}, newAble(t, s))
	k := dial(t, dir).Keeper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	none := func(*wire.ImportProgress) error { return nil }
	err := k.Import(ctx, "", "x", 1<<30, io.LimitReader(zeros{}, 1<<30), none)
	if !errors.Is(err, ErrQuestion) || err.Error() != "query: this is no database" {
		t.Errorf("refused: %v", err)
	}
	s.refuse = false
	broken := errors.New("broken disk")
	if err := k.Import(ctx, "", "x", 9, io.MultiReader(strings.NewReader("abc"), failing{broken}), none); !errors.Is(err, broken) {
		t.Errorf("unreadable: %v", err)
	}
	select {
	case got := <-s.imported:
		t.Errorf("half a file was imported: %q", got)
	case <-time.After(50 * time.Millisecond):
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// failing fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestPluginsAreControlledAndWatched(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	serve(t, Options{RunDir: dir}, newAble(t, &shelf{}))
	c := dial(t, dir)
	if said, err := c.Control(t.Context(), "sqlite", wire.ControlRequest_RESTART); err != nil || said != "did RESTART [2J" {
		t.Errorf("control: %q, %v", said, err)
	}
	if _, err := c.Control(t.Context(), "x", wire.ControlRequest_RETRY); !errors.Is(err, ErrQuestion) {
		t.Errorf("control of nobody: %v", err)
	}
	if l, err := c.PluginLog(t.Context(), "sqlite"); err != nil || len(l.GetLines()) != 2 {
		t.Errorf("log: %v, %v", l, err)
	}
	pages := 0
	if err := c.Watch(t.Context(), &wire.WatchRequest{}, func(*wire.WatchPage) error { pages++; return nil }); err != nil || pages != 3 {
		t.Errorf("watch: %d pages, %v", pages, err)
	}
	if err := c.Watch(t.Context(), &wire.WatchRequest{Interval: 1}, nil); !errors.Is(err, ErrQuestion) {
		t.Errorf("watch too often: %v", err)
	}
	enough := errors.New("enough")
	if err := c.Watch(t.Context(), &wire.WatchRequest{Interval: 2}, func(*wire.WatchPage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("watch: %v", err)
	}
}

func TestADaemonThatCannotSaysSo(t *testing.T) {
	t.Parallel()
	dir := runDir(t)
	serve(t, Options{RunDir: dir}, &fake{})
	c := dial(t, dir)
	if err := c.Watch(t.Context(), &wire.WatchRequest{}, nil); err == nil || err.Error() != "this daemon has no live feed" {
		t.Errorf("watch: %v", err)
	}
	if _, err := c.PluginLog(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "logs of plugins") {
		t.Errorf("log: %v", err)
	}
	if err := c.Keeper().Check(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), "stores") {
		t.Errorf("check: %v", err)
	}
}

func TestStrangersMayDoNothing(t *testing.T) {
	t.Parallel()
	need.Root(t, "become other users")
	dir := runDir(t)
	serve(t, Options{RunDir: dir, Owner: ownerUID, Groups: groupFile(t, "wheel:x:64103:\n"), Group: "wheel"}, newAble(t, &shelf{}))
	for call, said := range askAs(t, dir, otherUID, otherUID).More {
		if !strings.HasPrefix(said, "permission denied: ") || !strings.Contains(said, "members of group wheel; you are uid 64102") {
			t.Errorf("%s: %q", call, said)
		}
	}
	member := askAs(t, dir, otherUID, groupGID)
	for call, said := range member.More {
		if said != "" && call != "compact" {
			t.Errorf("a member: %s: %q", call, said)
		}
	}
	if len(member.More) < 4 || member.Query != "" {
		t.Errorf("a member of the group that was named: %+v", member)
	}
}

// pluginSocket serves a plugin's socket, which belongs to uid.
func pluginSocket(t *testing.T, b Backend, uid int, g Grants) string {
	t.Helper()
	dir := runDir(t)
	path := filepath.Join(dir, SocketName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(path, 0o666), os.Chown(path, uid, -1)); err != nil { // anybody may connect: who is asked?
		t.Fatal(err)
	}
	s, err := ServePlugin(l, "acme", func() Grants { return g }, b, nil)
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
	return dir
}

func TestWhatAPluginMayAskIsInTheTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		grants Grants
		want   right
	}{
		{"nothing", Grants{}, 0},
		{"sink", Grants{Kinds: []string{"sink", "store"}, Executables: true}, 0},
		{"locator", Grants{Kinds: []string{"locator"}, Executables: true}, 0},
		{"judge", Grants{Kinds: []string{"verdicts"}}, 0},
		{"judge that uploads", Grants{Kinds: []string{"verdicts"}, Executables: true}, mayExecutables},
		{"interface", Grants{Kinds: []string{"ui"}, Executables: true}, mayStatus | mayPlugins | mayQuery | mayWatch | mayLocate},
	} {
		if got := c.grants.rights(); got != c.want {
			t.Errorf("%s: %b, want %b", c.name, got, c.want)
		}
	}
	if everything&mayExecutables != 0 {
		t.Error("people may read executables through the daemon")
	}
}

func TestAPluginAsksOnItsOwnSocket(t *testing.T) {
	t.Parallel()
	b := newAble(t, &shelf{})
	ui := dial(t, pluginSocket(t, b, os.Geteuid(), Grants{Kinds: []string{"ui"}}))
	if s, err := ui.Status(t.Context()); err != nil || len(s.GetMessages()) != 1 || s.GetConfigDir() == "" {
		t.Errorf("status of an interface: %v, %v", s, err)
	}
	rows := 0
	if err := ui.Query(t.Context(), "", &wire.Query{}, func(p *wire.QueryPage) error { rows += len(p.GetRows()); return nil }); err != nil || rows != 6 {
		t.Errorf("query: %d rows, %v", rows, err)
	}
	locations, err := wire.NewLocatorClient(ui.conn).Locate(t.Context(), &wire.LocateRequest{Ips: [][]byte{{1, 2, 3, 4}}})
	if err != nil || len(locations.GetLocations()) != 1 {
		t.Errorf("locate: %v, %v", locations, err)
	}
	if _, err := ui.Control(t.Context(), "sqlite", wire.ControlRequest_DISCARD); !errors.Is(err, ErrDenied) {
		t.Errorf("an interface controls plugins: %v", err)
	}
	if err := ui.Keeper().Check(t.Context(), "", nil); !errors.Is(err, ErrDenied) {
		t.Errorf("an interface keeps stores: %v", err)
	}
	if _, err := open(t, ui); !errors.Is(err, ErrDenied) {
		t.Errorf("an interface reads executables: %v", err)
	}

	judge := dial(t, pluginSocket(t, b, os.Geteuid(), Grants{Kinds: []string{"verdicts"}, Executables: true}))
	if file, err := open(t, judge); err != nil || file != "sum!" {
		t.Errorf("open: %q, %v", file, err)
	}
	if s, err := judge.Status(t.Context()); err != nil || s.GetPid() != 42 || s.GetConfigDir() != "" ||
		len(s.GetMessages()) != 1 || strings.Contains(s.GetMessages()[0], "/home") {
		t.Errorf("status of a judge: %v, %v", s, err)
	}
	if err := judge.Query(t.Context(), "", &wire.Query{}, nil); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "plugin acme may not ask this") {
		t.Errorf("a judge asks the history: %v", err)
	}
}

func open(t *testing.T, c *Client) (string, error) {
	t.Helper()
	stream, err := c.host.OpenExecutable(t.Context(), &wire.OpenExecutableRequest{Sha256: []byte("sum")})
	if err != nil {
		return "", clientError("open executable", err)
	}
	var file strings.Builder
	err = each("open executable", stream.Recv, func(p *wire.Piece) error { file.Write(p.GetData()); return nil })
	return file.String(), err
}

func TestNobodyElseMayAskInAPluginsName(t *testing.T) {
	t.Parallel()
	need.Root(t, "become other users")
	dir := pluginSocket(t, newAble(t, &shelf{}), ownerUID, Grants{Kinds: []string{"ui"}})
	if a := askAs(t, dir, ownerUID, ownerUID); a.Query != "" || a.Rows != 6 {
		t.Errorf("the plugin itself: %+v", a)
	}
	if a := askAs(t, dir, otherUID, otherUID); a.Query == "" || a.Status == "" {
		t.Errorf("another user: %+v", a)
	}
}
