package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/test/need"
)

// TestMain makes this binary host, launcher, plugin, and a host that is to be killed.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == launch.Verb:
		os.Exit(launch.Main(os.Args[2:]))
	case os.Getenv(sdk.CookieKey) != "":
		if os.Args[0] == pageName {
			sdk.Serve(testPage{})
			return
		}
		sdk.Serve(&testPlugin{})
		return
	case len(os.Args) == 6 && os.Args[1] == "doomed-host":
		doomedHost(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
		return
	case len(os.Args) == 3 && os.Args[1] == "open-store":
		openStoreAsUser(os.Args[2])
		return
	}
	before := openFiles()
	code := m.Run()
	if escapeBinary.dir != "" {
		_ = os.RemoveAll(escapeBinary.dir)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	// The runtime's poller keeps two.
	if left := openFiles(); len(left) > len(before)+2 && code == 0 {
		fmt.Fprintf(os.Stderr, "descriptors were left open:\n%s\nbefore:\n%s\n", left, before)
		code = 1
	}
	os.Exit(code)
}

func openFiles() (all []string) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		all = append(all, e.Name()+" "+target)
	}
	return all
}

// pageName is the name under which the plugin is a testPage.
const pageName = "page"

// testPage is an interface that greets everybody on its listener.
type testPage struct{ sdk.Base }

func (testPage) Describe() sdk.Description { return sdk.Description{Name: pageName, Version: "1"} }

func (testPage) Configure(context.Context, sdk.Settings) error {
	serveListener()
	return nil
}

func (testPage) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// testConfig tells the plugin how to behave.
type testConfig struct {
	Refuse bool // Configure fails for ever
	Probe  bool // Configure writes what it sees to probe.json
	Secret string
	Peek   []string // paths to try to read
}

// testPlugin is a store that keeps its rows in a file: one line per batch, "epoch first last".
type testPlugin struct{ path string }

func (*testPlugin) Describe() sdk.Description {
	return sdk.Description{Name: "test", Version: "1.2.3"}
}

func (p *testPlugin) Configure(_ context.Context, s sdk.Settings) error {
	var c testConfig
	if err := json.Unmarshal(s.Config, &c); err != nil {
		return fmt.Errorf("%w: %w", sdk.ErrConfig, err)
	}
	if c.Refuse {
		return fmt.Errorf("%w: retention: want a number", sdk.ErrConfig)
	}
	p.path = filepath.Join(s.Directory, "rows")
	if c.Probe {
		serveListener()
		return probe(filepath.Join(s.Directory, "probe.json"), s.HostSocket, c)
	}
	return nil
}

func (*testPlugin) Health(context.Context) error { return nil }
func (*testPlugin) Drain(context.Context) error  { return nil }

func (p *testPlugin) Watermarks(context.Context) ([]sdk.Watermark, error) {
	text, err := os.ReadFile(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var all []sdk.Watermark
	for _, b := range parseRows(string(text)) {
		all = slices.DeleteFunc(all, func(w sdk.Watermark) bool { return w.Epoch == b.Epoch })
		all = append(all, sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last})
	}
	return all, err
}

func (p *testPlugin) Apply(_ context.Context, b *sdk.Batch) error {
	file, err := os.OpenFile(p.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%x %d %d\n", b.Epoch[:], b.First, b.Last)
	return errors.Join(err, file.Close())
}

func (p *testPlugin) Query(_ context.Context, _ *wire.Query, page func(*wire.QueryPage) error) error {
	for i := range 3 {
		if err := page(&wire.QueryPage{Scanned: int64(i)}); err != nil {
			return err
		}
	}
	return nil
}

func parseRows(text string) (all []journal.Batch) {
	for line := range strings.Lines(text) {
		var epoch []byte
		var b journal.Batch
		if n, _ := fmt.Sscanf(line, "%x %d %d", &epoch, &b.First, &b.Last); n == 3 {
			copy(b.Epoch[:], epoch)
			all = append(all, b)
		}
	}
	return all
}

// seen is what a plugin finds around it.
type seen struct {
	UID, GID, Groups, PID int
	Status                map[string]string // of /proc/self/status
	Reads                 map[string]string // path -> error, "" when it could be read
	Interfaces            []string          // that are up
	Entries               []string          // of /
	Env                   []string
	Comm                  string
	WroteRoot, Chowned    bool
	Sessions              bool // leads a session of its own
	Files                 []string
	Heard                 string // on host.sock
}

// serveListener greets everybody on the listener that the host made, if it made one.
func serveListener() {
	l, err := sdk.Listener()
	if errors.Is(err, sdk.ErrNoListener) {
		return
	}
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello\n")
			_ = conn.Close()
		}
	}()
}

// hear reads what the host says on the plugin's own socket.
func hear(socket string) string {
	if socket == "" {
		return ""
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	text, _ := io.ReadAll(conn)
	return string(text)
}

func probe(path, hostSocket string, c testConfig) error {
	s := seen{UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), Status: map[string]string{}, Reads: map[string]string{}, Env: os.Environ()}
	groups, _ := os.Getgroups()
	s.Groups = len(groups)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		s.Status[key] = strings.TrimSpace(value)
	}
	for _, peek := range c.Peek {
		if _, err := os.ReadFile(peek); err != nil {
			s.Reads[peek] = err.Error()
		} else {
			s.Reads[peek] = ""
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 {
			s.Interfaces = append(s.Interfaces, i.Name)
		}
	}
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		s.Entries = append(s.Entries, e.Name())
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	s.Comm = strings.TrimSpace(string(comm))
	s.WroteRoot = os.WriteFile("/evil", nil, 0o600) == nil || os.WriteFile("/usr/evil", nil, 0o600) == nil
	sid, _ := unix.Getsid(0)
	s.Sessions = sid == os.Getpid()
	files, _ := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		target, _ := os.Readlink("/proc/self/fd/" + f.Name())
		s.Files = append(s.Files, f.Name()+" "+target)
	}
	s.Heard = hear(hostSocket)
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// memoryFeed is a journal in memory.
type memoryFeed struct {
	mu      sync.Mutex
	batches []journal.Batch
	at      int // index of the first not acknowledged
	wake    chan struct{}
	lost    []journal.Span // that Seek tells of
}

var testEpoch = sdk.Epoch{1, 2, 3}

func newFeed(batches int) *memoryFeed {
	f := &memoryFeed{wake: make(chan struct{})}
	f.add(batches)
	return f
}

func (f *memoryFeed) add(batches int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range batches {
		n := uint64(len(f.batches)) + 1
		f.batches = append(f.batches, journal.Batch{Epoch: testEpoch, First: 2*n - 1, Last: 2 * n, Raw: encode(2*n-1, 2*n)})
	}
	close(f.wake)
	f.wake = make(chan struct{})
}

func (f *memoryFeed) Next(ctx context.Context) (journal.Batch, error) {
	for {
		f.mu.Lock()
		wake := f.wake
		if f.at < len(f.batches) {
			defer f.mu.Unlock()
			return f.batches[f.at], ctx.Err()
		}
		f.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return journal.Batch{}, ctx.Err()
		}
	}
}

func (f *memoryFeed) Ack(w sdk.Watermark) error { f.seek(w.Sequence); return nil }

func (f *memoryFeed) Seek(ws []sdk.Watermark) journal.Sought {
	if len(ws) > 0 {
		f.seek(ws[len(ws)-1].Sequence)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return journal.Sought{Lost: f.lost}
}

// lose has Seek tell of records from now on that are gone.
func (f *memoryFeed) lose(span journal.Span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = []journal.Span{span}
}

func (f *memoryFeed) seek(sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = int(sequence / 2)
}

func (f *memoryFeed) Lag() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(2 * (len(f.batches) - f.at))
}

// rig is a supervisor over plugins that are this very binary.
type rig struct {
	*Supervisor
	t    testing.TB
	dir  string
	feed *memoryFeed

	mu     sync.Mutex
	events []Event
}

// slot gives each test uids of its own: tests run at the same time.
func slot(n uint32) UIDs { return UIDs{First: 61200 + 8*n, Last: 61207 + 8*n} }

func needRoot(t testing.TB) {
	t.Helper()
	need.Root(t, "make namespaces and users")
}

func selfPath(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tempDir is short, because socket paths are, and passable for owner.
func tempDir(t testing.TB, owner process.Owner) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, int(owner.UID), int(owner.GID)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run starts the plugins; missing fields of the specs are filled in.
func run(t testing.TB, uids UIDs, specs ...Spec) *rig {
	t.Helper()
	return runWith(t, uids, func(*Options) {}, specs...)
}

// runWith is run with changed options.
func runWith(t testing.TB, uids UIDs, change func(*Options), specs ...Spec) *rig {
	t.Helper()
	needRoot(t)
	r := &rig{t: t, feed: newFeed(0)}
	for i := range specs {
		s := &specs[i]
		if s.Directory == "" {
			s.Directory = filepath.Join(tempDir(t, s.Owner), "own")
		}
		if s.Path == "" {
			s.Path = selfPath(t)
		}
		if s.Config == nil {
			s.Config = []byte("{}")
		}
		if s.MemoryMB == 0 {
			s.MemoryMB = testMemoryMB
		}
		r.dir = s.Directory
	}
	o := Options{
		RunDir: tempDir(t, process.Owner{}), UIDs: uids, Epoch: testEpoch, Start: 20 * time.Second,
		Feed: func(string) (Feed, error) { return r.feed, nil },
		Report: func(e Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
	}
	change(&o)
	var err error
	if r.Supervisor, err = New(o, specs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r
}

// patience bounds every wait: 30 s, times LAB_PATIENCE, which says how slow an emulated guest is.
func patience(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("LAB_PATIENCE")
	if text == "" {
		return 30 * time.Second
	}
	factor, err := strconv.Atoi(text)
	if err != nil || factor < 1 {
		t.Fatalf("LAB_PATIENCE=%q: want a whole number from 1", text)
	}
	return time.Duration(factor) * 30 * time.Second
}

// await polls until ok, and fails with what the plugins are instead.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience(r.t))
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: did not happen; status: %v", what, r.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rig) awaitState(state string) *wire.PluginStatus {
	r.t.Helper()
	r.await(state, func() bool { return r.Status()[0].GetState() == state })
	return r.Status()[0]
}

// rows are the batches in the sink's file.
func (r *rig) rows() []journal.Batch {
	text, _ := os.ReadFile(filepath.Join(r.dir, "rows"))
	return parseRows(string(text))
}
