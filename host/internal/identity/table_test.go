package identity

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const mountNS = 4026531841

func TestHashesProcessParentAndGrandparent(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	shell := m.exec(10, 1, capture.Key{}, m.program("shell"), "sh")
	script := m.exec(11, 2, shell.Key, m.program("script"), "script\x00-v")
	curl := m.exec(12, 3, script.Key, m.program("curl"), "curl\x00example.org")
	l := m.lineage(curl)
	wantHash(t, l.Process, "curl")
	wantHash(t, l.Parent, "script")
	wantHash(t, l.Grandparent, "shell")
	if got := string(l.Process.GetCommandLine().GetValue()); got != "curl\x00example.org" {
		t.Errorf("command line %q", got)
	}
}

func TestTwoRunsOfOneProgramKeepTheirOwnArguments(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("curl")
	first := m.exec(20, 1, capture.Key{}, path, "curl\x00google.com")
	second := m.exec(21, 1, capture.Key{}, path, "curl\x00facebook.com")
	for _, p := range []*capture.Process{first, second} {
		if got := string(m.lineage(p).Process.GetCommandLine().GetValue()); got != string(p.Arguments.Value) {
			t.Errorf("command line %q, want %q", got, p.Arguments.Value)
		}
	}
	if c := m.table.Counters(); c.Hashed != 1 {
		t.Errorf("%d hashes of one file", c.Hashed)
	}
}

func TestProcessThatEndedIsHashedByItsPath(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	p := m.exec(30, 1, capture.Key{}, m.program("short"), "short")
	m.gone(p)
	wantHash(t, m.lineage(p).Process, "short")
}

func TestAnotherFileAtThePathIsNeverHashed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("good")
	original := keyOfFile(t, path)
	other := m.program("evil")
	p := m.exec(31, 1, capture.Key{}, path, "good")
	m.lineage(p) // the first instance has the file open
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	late := &capture.Process{
		Key: capture.Key{Tgid: 32, Start: 32}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS,
		Began: m.boot + int64(time.Hour), Path: p.Path, File: original,
	}
	late.File.Superblock = 8 // another instance, so that no cached hash answers
	m.table.Observe(late)
	e := m.lineage(late).Process.GetExecutable()
	if e.GetHashStatus() != wire.HashStatus_HASH_GONE || len(e.GetSha256()) != 0 {
		t.Errorf("status %v, sha256 %x: the file at the path is another one", e.GetHashStatus(), e.GetSha256())
	}
}

func TestFileRewrittenAfterExecutionIsNotHashed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("before")
	p := &capture.Process{
		Key: capture.Key{Tgid: 33, Start: 33}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS,
		Began: m.boot + int64(time.Hour), Path: capture.Text{Value: capture.Bytes(path), Length: len(path)}, File: keyOfFile(t, path),
	}
	if err := os.WriteFile(path, []byte("after, and longer"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.table.Observe(p)
	e := m.lineage(p).Process.GetExecutable()
	if e.GetHashStatus() != wire.HashStatus_HASH_CHANGED || len(e.GetSha256()) != 0 {
		t.Errorf("status %v, sha256 %x", e.GetHashStatus(), e.GetSha256())
	}
}

func TestHashOfAFileWrittenJustBeforeIsMarkedAndNotShared(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("fresh")
	racyExec := func(pid uint32) *capture.Process {
		p := m.exec(pid, 1, capture.Key{}, path, "fresh")
		again := *p
		again.Key.Start++
		now := m.table.options.Now()
		again.Began = now.Boot - (now.UTC - p.File.Ctime) // executed in the instant it was written
		m.table.Observe(&again)
		return &again
	}
	for _, p := range []*capture.Process{racyExec(34), racyExec(35)} {
		if e := m.lineage(p).Process.GetExecutable(); e.GetHashStatus() != wire.HashStatus_HASH_RACY || string(e.GetSha256()) != sum("fresh") {
			t.Errorf("status %v, sha256 %x", e.GetHashStatus(), e.GetSha256())
		}
	}
	if c := m.table.Counters(); c.Hashed != 2 {
		t.Errorf("%d hashes, want one for each execution", c.Hashed)
	}
}

func TestParentIsTheOneThatForkedAlsoWhenItHasGone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	initial := m.exec(1, 1, capture.Key{}, m.program("init"), "init")
	shell := m.exec(40, 2, initial.Key, m.program("shell"), "sh")
	launcher := m.exec(41, 3, shell.Key, m.program("launcher"), "launcher")
	fork := *launcher
	fork.Key, fork.Parent, fork.Forked = capture.Key{Tgid: 42, ExecID: 3, Start: 42}, launcher.Key, true
	m.table.Observe(&fork)
	m.gone(launcher)
	m.table.Recorded(m.boot + 1)
	// The kernel gives an orphan to init; it is the launcher that started it.
	curl := m.exec(42, 4, initial.Key, m.program("curl"), "curl")
	m.table.End(&capture.Exit{Key: fork.Key, Time: m.boot})
	m.table.Recorded(m.boot + 1)
	l := m.lineage(curl)
	wantHash(t, l.Process, "curl")
	wantHash(t, l.Parent, "launcher")
	wantHash(t, l.Grandparent, "shell")
}

func TestEndedProcessesAreForgottenWithTheirLastChild(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	parent := m.exec(50, 1, capture.Key{}, m.program("parent"), "parent")
	child := m.exec(51, 2, parent.Key, m.program("child"), "child")
	m.gone(parent)
	m.table.Recorded(m.boot + 1)
	if keys := m.table.Forgotten(); len(keys) != 0 {
		t.Fatalf("forgotten while a child runs: %v", keys)
	}
	m.gone(child)
	m.table.Recorded(m.boot)
	if keys := m.table.Forgotten(); len(keys) != 0 {
		t.Fatalf("forgotten before its window was recorded: %v", keys)
	}
	m.table.Recorded(m.boot + 1)
	if keys := m.table.Forgotten(); len(keys) != 2 {
		t.Errorf("forgotten %v, want both", keys)
	}
	if c := m.table.Counters(); c.Processes != 0 || c.OpenFiles != 0 {
		t.Errorf("%+v", c)
	}
}

func TestFileOfAnEndedProcessIsHashedAndClosedAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	p := m.exec(60, 1, capture.Key{}, m.program("quiet"), "quiet")
	waitFor(t, func() bool { return m.table.Counters().OpenFiles == 1 })
	m.gone(p)
	waitFor(t, func() bool {
		c := m.table.Counters()
		return c.OpenFiles == 0 && c.Hashing == 0 && c.Hashed == 1
	})
	wantHash(t, m.lineage(p).Process, "quiet")
}

func TestOpenFilesAreBounded(t *testing.T) {
	t.Parallel()
	m := newMachine(t, func(o *Options) { o.MaxFiles = 4 })
	for pid := range uint32(20) {
		m.exec(100+pid, 1, capture.Key{}, m.program(strconv.Itoa(int(pid))), "x")
	}
	waitFor(t, func() bool {
		c := m.table.Counters()
		return c.OpenFiles == 4 && c.Hashed+c.FilesClosed == 16 && c.Hashing == 0 // the others are read while there is room
	})
}

func TestLateHashIsToldOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	p := m.exec(70, 1, capture.Key{}, m.program("slow"), "slow")
	w := &capture.Window{Flows: []capture.Flow{{Process: p.Key}}}
	if e := m.table.Lineage(&w.Flows[0]).Process.GetExecutable(); e.GetHashStatus() != wire.HashStatus_HASH_PENDING {
		t.Fatalf("status %v before anybody asked", e.GetHashStatus())
	}
	m.table.Await(t.Context(), []capture.Key{p.Key})
	late := m.table.Late()
	if len(late) != 1 || late[0].File != p.File || string(late[0].SHA256) != sum("slow") {
		t.Errorf("late: %+v", late)
	}
	if again := m.table.Late(); len(again) != 0 {
		t.Errorf("told twice: %+v", again)
	}
}

func TestPathInAnotherMountNamespaceHasAScopeUnlessTheHostSeesTheSameFile(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	inside := func(pid uint32, path string, file capture.FileKey) *wire.Executable {
		p := &capture.Process{
			Key: capture.Key{Tgid: pid, Start: 1}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: 99,
			Began: m.boot + int64(time.Hour), Path: capture.Text{Value: capture.Bytes(path), Length: len(path)}, File: file,
		}
		m.table.Observe(p)
		m.lineage(p)
		waitFor(t, func() bool {
			m.table.mu.Lock()
			defer m.table.mu.Unlock()
			return m.table.views.find(m.table.viewOf(p)) != asked
		})
		return m.lineage(p).Process.GetExecutable()
	}
	path := m.program("curl")
	if e := inside(80, path, keyOfFile(t, path)); e.GetScope() != "" {
		t.Errorf("scope %q of the host's own file", e.GetScope())
	}
	if e := inside(81, path, keyOfFile(t, m.program("pretender"))); e.GetScope() != "mntns:99" {
		t.Errorf("scope %q of another file at the same path", e.GetScope())
	}
}

func TestFileThatRanUnderItsOwnNameGetsAScopeUnderAnother(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	evil := m.program("evil")
	own := m.exec(82, 1, capture.Key{}, evil, "evil")
	if e := m.lineage(own).Process.GetExecutable(); e.GetScope() != "" {
		t.Errorf("scope %q in the host's own namespace", e.GetScope())
	}
	// In a namespace of its own it is mounted over curl.
	curl := m.program("curl")
	p := &capture.Process{
		Key: capture.Key{Tgid: 83, Start: 1}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: 99,
		Began: m.boot + int64(time.Hour), Path: capture.Text{Value: capture.Bytes(curl), Length: len(curl)}, File: own.File,
	}
	m.table.Observe(p)
	if e := m.lineage(p).Process.GetExecutable(); e.GetScope() != "mntns:99" || string(e.GetSha256()) != sum("evil") {
		t.Errorf("scope %q, sha256 %x", e.GetScope(), e.GetSha256())
	}
}

func TestPathOfAnotherNamespaceIsNotTrustedForTheProcessIsAtHome(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	curl, evil := m.program("curl"), m.program("evil")
	for i, c := range []struct {
		namespace uint32
		scope     string
	}{{99, "mntns:99"}, {capture.PathUnmounted, "mntns:none"}, {m.table.options.HostMountNS, ""}} {
		p := &capture.Process{
			Key: capture.Key{Tgid: 84 + uint32(i), Start: 1}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL,
			MountNS: m.table.options.HostMountNS, PathNS: c.namespace, Began: m.boot + int64(time.Hour),
			Path: capture.Text{Value: capture.Bytes(curl), Length: len(curl)}, File: keyOfFile(t, evil),
		}
		m.table.Observe(p)
		if got := m.lineage(p).Process.GetExecutable().GetScope(); got != c.scope {
			t.Errorf("path of namespace %d: scope %q, want %q", c.namespace, got, c.scope)
		}
	}
}

func TestWhatCouldNotBeHashedIsTriedAgainWithTheNextProcess(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	path := m.program("hidden")
	lost := &capture.Process{
		Key: capture.Key{Tgid: 84, Start: 1}, Attribution: wire.Attribution_ATTRIBUTION_KERNEL, MountNS: mountNS,
		Began: m.boot + int64(time.Hour), Path: capture.Text{Value: "/nowhere", Length: 8}, File: keyOfFile(t, path),
	}
	m.table.Observe(lost)
	if e := m.lineage(lost).Process.GetExecutable(); e.GetHashStatus() != wire.HashStatus_HASH_GONE {
		t.Fatalf("status %v", e.GetHashStatus())
	}
	wantHash(t, m.lineage(m.exec(85, 1, capture.Key{}, path, "hidden")).Process, "hidden")
}

func TestTableFullRefusesTheNewest(t *testing.T) {
	t.Parallel()
	m := newMachine(t, func(o *Options) { o.MaxProcesses = 2 })
	path := m.program("x")
	for pid := range uint32(5) {
		m.exec(200+pid, 1, capture.Key{}, path, "x")
	}
	if c := m.table.Counters(); c.Processes != 2 || c.Refused != 3 {
		t.Errorf("%+v", c)
	}
	l := m.table.Lineage(&capture.Flow{Process: capture.Key{Tgid: 204, ExecID: 1, Start: 204}, Name: "x", UID: 7})
	if string(l.Process.GetName().GetValue()) != "x" || l.Process.GetRuid() != 7 {
		t.Errorf("a refused process is known by its flow: %v", l.Process)
	}
}

func TestKernelSocketsBelongToNoProcess(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	l := m.table.Lineage(&capture.Flow{Kernel: true, Name: "kworker/1:2"})
	if l.Process.GetKernel() == "" || l.Process.GetId() != nil || l.Parent != nil {
		t.Errorf("%v", l)
	}
}
