package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/marks"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// tableOfHost says that a file's file system is mounted, under a number, as a kind.
func tableOfHost(t *testing.T, path string, id uint64, kind marks.Kind) []marks.Mount {
	t.Helper()
	return []marks.Mount{{ID: id, Device: keyOfFile(t, path).Device, Point: "/nowhere", Kind: kind}}
}

func TestHashEndsWithTheMount(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("stick")
	m.table.Mounts(tableOfHost(t, path, 1, marks.Local))
	hashes := func(pid uint32) uint64 {
		wantHash(t, m.lineage(m.exec(pid, 1, capture.Key{}, path, "x")).Process, "stick")
		return m.table.Counters().Hashed
	}
	if n := hashes(1) + hashes(2); n != 2 {
		t.Errorf("hashed again while mounted: %d", n-1)
	}
	m.table.Mounts(append(tableOfHost(t, path, 1, marks.Local), marks.Mount{ID: 2, Device: 77}))
	if n := hashes(3); n != 1 {
		t.Errorf("%d hashes: another mount was no reason", n)
	}
	m.table.Mounts(tableOfHost(t, path, 3, marks.Local)) // the number went to another mount
	if n := hashes(4); n != 2 {
		t.Errorf("%d hashes of two mounts", n)
	}
	if c := m.table.Counters(); c.Unmounted != 1 {
		t.Errorf("%+v", c)
	}
}

func TestHashOfAForeignFileSystemCountsWhileSomebodyRunsTheFile(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("inside")
	m.table.Mounts([]marks.Mount{})
	m.table.Foreign(9, tableOfHost(t, path, 1, marks.Local))
	first := m.exec(1, 1, capture.Key{}, path, "x")
	second := m.exec(2, 1, capture.Key{}, path, "x")
	wantHash(t, m.lineage(first).Process, "inside")
	wantHash(t, m.lineage(second).Process, "inside")
	if c := m.table.Counters(); c.Hashed != 1 {
		t.Errorf("%d hashes while it runs", c.Hashed)
	}
	m.gone(first)
	m.gone(second)
	wantHash(t, m.lineage(m.exec(3, 1, capture.Key{}, path, "x")).Process, "inside")
	if c := m.table.Counters(); c.Hashed != 2 {
		t.Errorf("%d hashes: nobody kept the file system from going", c.Hashed)
	}
}

func TestFileSystemNobodyKnowsIsNotTrustedWithAHash(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("unknown")
	m.table.Mounts([]marks.Mount{})
	for pid := range uint32(2) {
		e := m.lineage(m.exec(pid+1, 1, capture.Key{}, path, "x")).Process.GetExecutable()
		if e.GetHashStatus() != wire.HashStatus_HASH_AS_SERVED || string(e.GetSha256()) != sum("unknown") {
			t.Errorf("%v, %x", e.GetHashStatus(), e.GetSha256())
		}
	}
	if c := m.table.Counters(); c.Hashed != 2 {
		t.Errorf("%d hashes of two executions", c.Hashed)
	}
}

func TestServedFileIsReadAsItsUserOnceForEachExecution(t *testing.T) {
	t.Parallel()
	type call struct {
		uid, gid uint32
		pid      uint32
		opened   bool
	}
	var mu sync.Mutex
	var calls []call
	var failure error
	m := newMachine(t, func(o *Options) {
		o.ReadAs = func(_ context.Context, f ServedFile, uid, gid uint32) ([]byte, capture.FileKey, error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, call{uid, gid, f.Pid, f.File != nil})
			return []byte(sum("served")), f.Want, failure
		}
	})
	path := m.program("served")
	mounted := tableOfHost(t, path, 1, marks.Served)
	mounted[0].Readable, mounted[0].Group = 1000, 100
	m.table.Mounts(mounted)
	for pid := range uint32(2) {
		e := m.lineage(m.exec(pid+1, 1, capture.Key{}, path, "x")).Process.GetExecutable()
		if e.GetHashStatus() != wire.HashStatus_HASH_AS_SERVED || string(e.GetSha256()) != sum("served") {
			t.Errorf("%v, %x", e.GetHashStatus(), e.GetSha256())
		}
	}
	mu.Lock()
	if len(calls) != 2 || calls[0] != (call{1000, 100, 1, true}) {
		t.Errorf("%+v", calls)
	}
	mu.Unlock()
	for i, c := range []struct {
		err  error
		want wire.HashStatus
	}{
		{fs.ErrNotExist, wire.HashStatus_HASH_GONE}, {fs.ErrPermission, wire.HashStatus_HASH_UNREADABLE},
		{fmt.Errorf("%w", ErrTooLarge), wire.HashStatus_HASH_TOO_LARGE}, {ErrChanged, wire.HashStatus_HASH_CHANGED},
		{context.DeadlineExceeded, wire.HashStatus_HASH_TIMEOUT}, {errors.New("disk"), wire.HashStatus_HASH_UNREADABLE},
	} {
		mu.Lock()
		failure = c.err
		mu.Unlock()
		e := m.lineage(m.exec(uint32(10+i), 1, capture.Key{}, path, "x")).Process.GetExecutable()
		if e.GetHashStatus() != c.want || len(e.GetSha256()) != 0 {
			t.Errorf("%v: %v, %x", c.err, e.GetHashStatus(), e.GetSha256())
		}
	}
}

// follower tells what the test wants.
type follower struct{ synced func() }

func (f *follower) Watch(int) error            { return nil }
func (f *follower) Saw(_, _ uint32, _ uint64)  {}
func (f *follower) Sync(context.Context) error { f.synced(); return nil }

func TestFileThatWasDeletedIsHashedIfNobodyWroteToIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		written, overflowed bool
		want                wire.HashStatus
	}{
		"untouched":      {want: wire.HashStatus_HASH_OK},
		"written":        {written: true, want: wire.HashStatus_HASH_CHANGED},
		"nobody can say": {overflowed: true, want: wire.HashStatus_HASH_CHANGED},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &follower{synced: func() {}}
			m := newMachine(t, func(o *Options) { o.Follower = f })
			path := m.program("deleted")
			key := keyOfFile(t, path)
			f.synced = func() { // what happened before is told now
				if c.written {
					m.table.Modified(key.Device, key.Inode)
				}
				if c.overflowed {
					m.table.Overflow()
				}
			}
			p := m.exec(1, 1, capture.Key{}, path, "x")
			waitFor(t, func() bool { return m.table.Counters().OpenFiles == 1 })
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if e := m.lineage(p).Process.GetExecutable(); e.GetHashStatus() != c.want || (len(e.GetSha256()) > 0) != (c.want == wire.HashStatus_HASH_OK) {
				t.Errorf("%v, %x", e.GetHashStatus(), e.GetSha256())
			}
		})
	}
}

func TestFileThatWasDeletedBeforeItCameIsHashedIfItsProgramStillRanThen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ended   int64 // boot ns before now; 0: nobody knows
		written bool
		want    wire.HashStatus
	}{
		"it ended later":       {ended: 1, want: wire.HashStatus_HASH_RACY},
		"it had ended":         {ended: int64(time.Hour), want: wire.HashStatus_HASH_CHANGED},
		"nobody knows":         {want: wire.HashStatus_HASH_CHANGED},
		"and was written over": {ended: 1, written: true, want: wire.HashStatus_HASH_CHANGED},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, func(o *Options) {
				o.Follower = &follower{synced: func() {}}
				o.Ended = func(capture.Key) int64 {
					if c.ended == 0 {
						return 0
					}
					return int64(time.Hour) - c.ended
				}
			})
			path := m.program("self-deleting")
			m.table.Mounts(tableOfHost(t, path, 1, marks.Local))
			p := &capture.Process{
				Key: capture.Key{Tgid: 5, Start: 5}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS,
				Began: m.boot + int64(time.Hour), Path: capture.Text{Value: capture.Bytes(path), Length: len(path)},
				File: keyOfFile(t, path),
			}
			time.Sleep(racy) // or the kernel's clock shows the same time
			if c.written {
				if err := os.WriteFile(path, []byte("SELF-DELETING"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			file, err := os.Open(path)
			if err == nil {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.table.Executed(5, file)
			m.table.Observe(p)
			e := m.lineage(p).Process.GetExecutable()
			if e.GetHashStatus() != c.want || (string(e.GetSha256()) == sum("self-deleting")) != (c.want == wire.HashStatus_HASH_RACY) {
				t.Errorf("%v, %x", e.GetHashStatus(), e.GetSha256())
			}
		})
	}
}

func TestModifiedFileAndOverflowEndWhatIsKnown(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("known")
	hash := func(pid uint32) uint64 {
		wantHash(t, m.lineage(m.exec(pid, 1, capture.Key{}, path, "x")).Process, "known")
		return m.table.Counters().Hashed
	}
	hash(1)
	m.table.Modified(1, 1)
	if n := hash(2); n != 1 {
		t.Errorf("%d hashes: another file was written to", n)
	}
	key := keyOfFile(t, path)
	m.table.Modified(key.Device, key.Inode)
	if n := hash(3); n != 2 {
		t.Errorf("%d hashes of a file that was written to", n)
	}
	m.table.Overflow()
	if n := hash(4); n != 3 {
		t.Errorf("%d hashes, though anything may have been written to", n)
	}
}

func TestHandedFileIsMatchedWhicheverComesFirst(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"file first": true, "facts first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			m.table.handed.root = 0
			path := m.program("handed")
			m.table.Mounts(tableOfHost(t, path, 1, marks.Local))
			loader := m.program("loader")
			hand := func() {
				for _, path := range []string{loader, path} {
					file, err := os.Open(path)
					if err != nil {
						t.Fatal(err)
					}
					m.table.Executed(5, file)
				}
			}
			p := &capture.Process{
				Key: capture.Key{Tgid: 5, Start: 5}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS,
				Began: m.boot + int64(time.Hour), Path: capture.Text{Value: "/gone", Length: 5}, File: keyOfFile(t, path),
			}
			if first {
				hand()
				m.table.Observe(p)
			} else {
				m.table.Observe(p)
				waitFor(t, func() bool {
					m.table.mu.Lock()
					defer m.table.mu.Unlock()
					return len(m.table.handed.patient[5]) == 1
				})
				hand()
			}
			wantHash(t, m.lineage(p).Process, "handed")
			if c := m.table.Counters(); c.Handed != 1 {
				t.Errorf("%+v", c)
			}
			waitFor(t, func() bool { return m.table.Counters().HandedFiles == 0 }) // the loader's is closed unmatched
		})
	}
}

func TestWaitForAFileThatIsNeverHandedOverEnds(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("never")
	m.table.Mounts(tableOfHost(t, path, 1, marks.Local))
	p := &capture.Process{
		Key: capture.Key{Tgid: 5, Start: 5}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS,
		Began: m.boot + int64(time.Hour), Path: capture.Text{Value: "/gone", Length: 5}, File: keyOfFile(t, path),
	}
	m.table.Observe(p)
	if e := m.lineage(p).Process.GetExecutable(); e.GetHashStatus() != wire.HashStatus_HASH_GONE {
		t.Errorf("%v", e.GetHashStatus())
	}
}

func TestHandedFilesAreBounded(t *testing.T) {
	t.Parallel()
	m := newMachine(t, func(o *Options) { o.MaxFiles = 8 })
	m.table.handed.root = 0
	path := m.program("x")
	for pid := range uint32(20) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		m.table.Executed(pid, file)
	}
	if c := m.table.Counters(); c.HandedFiles > 8 || c.HandedDropped != 12 {
		t.Errorf("%+v", c)
	}
	waitFor(t, func() bool { return m.table.Counters().HandedFiles == 0 })
}

// shows lets a process in /proc show a start time, a command line and a program.
func (m *machine) shows(p *capture.Process, line, program string) {
	m.t.Helper()
	dir := filepath.Join(m.proc, strconv.Itoa(int(p.Key.Tgid)))
	stat := fmt.Sprintf("%d (x) y) R%s %d 0", p.Key.Tgid, strings.Repeat(" 0", 18), p.Key.Start/1e7)
	for name, content := range map[string]string{"stat": stat, "cmdline": line} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "exe")), os.Symlink(program, filepath.Join(dir, "exe"))); err != nil {
		m.t.Fatal(err)
	}
}

func TestProcessWhoseLinkLeadsElsewhereIsForged(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	evil, good := m.program("evil"), m.program("good")
	forged := m.exec(1, 1, capture.Key{}, evil, "evil")
	honest := m.exec(2, 1, capture.Key{}, good, "good")
	exec := m.exec(3, 1, capture.Key{}, evil, "evil") // has executed another program, which is not known yet
	waitFor(t, func() bool { return m.table.Counters().OpenFiles == 2 })
	m.shows(forged, "evil\x00", good)
	m.shows(honest, "good\x00", good)
	m.shows(exec, "evil\x00", good)
	for _, p := range []*capture.Process{forged, honest, exec} {
		wantHash(t, m.lineage(p).Process, map[string]string{evil: "evil", good: "good"}[string(p.Path.Value)])
	}
	m.table.Recorded(m.boot)
	if found := m.table.Forgeries(); len(found) != 0 {
		t.Fatalf("%+v before what happened until then was known", found)
	}
	m.table.End(&capture.Exit{Key: exec.Key, Time: m.boot - 1}) // its exec came just before it was looked at
	for range 2 {
		m.table.Recorded(m.boot + 1)
	}
	found := m.table.Forgeries()
	if len(found) != 1 || found[0].Process.GetId().GetTgid() != forged.Key.Tgid || found[0].Shown != good {
		t.Errorf("%+v", found)
	}
}

func TestCommandLineIsAClaimOnlyIfItDiffers(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("x")
	for i, c := range []struct {
		executed     capture.Text
		shown, claim string
	}{
		{capture.Text{Value: "x\x00-v", Length: 4}, "x\x00-v\x00", ""},
		{capture.Text{Value: "x\x00-v", Length: 4}, "sshd: user\x00\x00\x00", "sshd: user"},
		{capture.Text{Value: "x\x00lo", Length: 900}, "x\x00long\x00", ""}, // cut when it was executed
		{capture.Text{Value: "x", Length: 1}, "", ""},                      // swapped out, or closed to us
	} {
		p := m.exec(uint32(10+i), 1, capture.Key{}, path, "")
		m.table.mu.Lock()
		m.table.nodes[p.Key].facts.Arguments = c.executed
		m.table.mu.Unlock()
		m.shows(p, c.shown, path)
		if got := string(m.lineage(p).Process.GetClaimedCommandLine().GetValue()); got != c.claim {
			t.Errorf("%q shows %q: claim %q, want %q", c.executed.Value, c.shown, got, c.claim)
		}
	}
}

func TestPidThatStandsForAnotherProcessClaimsNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	p := m.exec(10, 1, capture.Key{}, m.program("x"), "x")
	other := *p
	other.Key.Start += int64(time.Hour)
	m.shows(&other, "other\x00", m.program("other"))
	if l := m.lineage(p).Process; l.GetClaimedCommandLine() != nil {
		t.Errorf("claim %q", l.GetClaimedCommandLine().GetValue())
	}
	m.table.Recorded(m.boot + 1)
	if found := m.table.Forgeries(); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestPidReuseKeepsProcessesApart(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	first := m.exec(7, 1, capture.Key{}, m.program("first"), "first")
	wantHash(t, m.lineage(first).Process, "first")
	m.gone(first)
	second := *m.exec(8, 1, capture.Key{}, m.program("second"), "second")
	second.Key.Tgid = 7
	second.Key.Start = 99
	m.table.Observe(&second)
	wantHash(t, m.lineage(&second).Process, "second")
	wantHash(t, m.lineage(first).Process, "first")
}

func TestChainGoesUpToTheFirstProcessThroughWhoHasEnded(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	before := m.exec(1, 1, capture.Key{}, m.program("init"), "init")
	initial := before
	for pid := uint32(2); pid < 8; pid++ {
		next := m.exec(pid, pid, before.Key, m.program(strconv.Itoa(int(pid))), "x")
		if before != initial {
			m.gone(before) // a double fork: nobody waits for its child
		}
		before = next
	}
	m.table.Recorded(m.boot + 1)
	chain := m.table.Chain(before.Key)
	if len(chain) != 7 || chain[0].GetId().GetTgid() != 7 || chain[6].GetId().GetTgid() != 1 {
		t.Fatalf("chain %v", chain)
	}
	ancestors := m.table.Ancestors(chain[0].Id)
	if len(ancestors) != len(chain)-1 || ancestors[0].Tgid != chain[1].Id.Tgid || string(ancestors[0].Path.Value) != string(chain[1].Executable.Path.Value) {
		t.Errorf("ancestors %v of the chain %v", ancestors, chain)
	}
	if m.table.Ancestors(chain[len(chain)-1].Id) != nil {
		t.Error("the first process has ancestors")
	}
	if m.table.Chain(capture.Key{Tgid: 99}) != nil {
		t.Error("a chain of a process that nobody knows")
	}
}

func TestScriptIsInTheMessage(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("sh")
	p := *m.exec(1, 1, capture.Key{}, path, "sh")
	p.Key.ExecID++
	p.Script = capture.Text{Value: "./run.sh", Length: 300}
	m.table.Observe(&p)
	script := m.lineage(&p).Process.GetExecutable().GetScript()
	if string(script.GetValue()) != "./run.sh" || !script.GetTruncated() || script.GetLength() != 300 {
		t.Errorf("%v", script)
	}
}

func TestNoUserHasMoreThanAnEighth(t *testing.T) {
	t.Parallel()
	m := newMachine(t, func(o *Options) { o.MaxProcesses, o.MaxText = 800, 8*8192 })
	path := m.program("x")
	observe := func(uid, pid uint32, arguments string) {
		m.table.Observe(&capture.Process{
			Key: capture.Key{Tgid: pid, Start: 1}, UID: uid, File: keyOfFile(t, path), MountNS: mountNS,
			Path:      capture.Text{Value: capture.Bytes(path), Length: len(path)},
			Arguments: capture.Text{Value: capture.Bytes(arguments), Length: len(arguments)},
		})
	}
	for pid := range uint32(300) {
		observe(1000, pid, strings.Repeat("x", 3000))
	}
	observe(1001, 1000, strings.Repeat("y", 3000))
	c := m.table.Counters()
	if c.Processes != 101 || c.RefusedShare != 200 || c.TextsCut != 98 {
		t.Errorf("%+v", c)
	}
	quiet := m.table.LineageOf(capture.Key{Tgid: 1000, Start: 1}).Process.GetCommandLine()
	if len(quiet.GetValue()) != 3000 || quiet.GetTruncated() {
		t.Errorf("the quiet user's command line was cut to %d", len(quiet.GetValue()))
	}
	cut := m.table.LineageOf(capture.Key{Tgid: 50, Start: 1}).Process.GetCommandLine()
	if len(cut.GetValue()) != keptText || !cut.GetTruncated() || cut.GetLength() != 3000 {
		t.Errorf("cut to %d of %d", len(cut.GetValue()), cut.GetLength())
	}
	for pid := range uint32(300) {
		m.table.End(&capture.Exit{Key: capture.Key{Tgid: pid, Start: 1}, Time: 1})
	}
	m.table.Recorded(2)
	if c := m.table.Counters(); c.Processes != 1 || c.Text != uint64(3000+len(path)) {
		t.Errorf("%+v", c)
	}
}

func TestSizeLimitAndDeadlineShowAsReasons(t *testing.T) {
	t.Parallel()
	large := newMachine(t, func(o *Options) { o.MaxHash = 3 })
	if e := large.lineage(large.exec(1, 1, capture.Key{}, large.program("large"), "x")).Process.GetExecutable(); e.GetHashStatus() != wire.HashStatus_HASH_TOO_LARGE {
		t.Errorf("%v", e.GetHashStatus())
	}
	slow := newMachine(t, func(o *Options) { o.HashTimeout = time.Nanosecond })
	if e := slow.lineage(slow.exec(1, 1, capture.Key{}, slow.program(strings.Repeat("slow", readSize)), "x")).Process.GetExecutable(); e.GetHashStatus() != wire.HashStatus_HASH_TIMEOUT {
		t.Errorf("%v", e.GetHashStatus())
	}
}

func TestKernelInodeIsFound(t *testing.T) {
	t.Parallel()
	file, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if inode, known := kernelInode(int(file.Fd())); known && inode != st.Ino {
		t.Errorf("%d, want %d", inode, st.Ino)
	}
}
