package identity

import (
	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Lineage tells who is behind a flow.
func (t *Table) Lineage(f *capture.Flow) Lineage {
	if f.Kernel {
		return Lineage{Process: kernelProcess(f)}
	}
	t.mu.Lock()
	n := t.nodes[f.Process]
	if n == nil {
		t.mu.Unlock()
		return Lineage{Process: t.strayProcess(f)}
	}
	defer t.mu.Unlock()
	l := t.lineageOf(n)
	if f.Name != "" && f.UID != l.Process.Ruid {
		l.Process = withUser(l.Process, f.UID)
	}
	return l
}

// LineageOf tells who is behind a process instance; empty if it is not known.
func (t *Table) LineageOf(key capture.Key) Lineage {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[key]
	if n == nil {
		return Lineage{}
	}
	return t.lineageOf(n)
}

// maxChain bounds the processes in a chain: who forks without end has no more ancestors than that.
const maxChain = 1024

// Chain tells the whole descent of a process instance, itself first, then who started it, up to the first process of the
// machine or to where knowledge ends; nil if it is not known. It is who forked whom, also when they have ended since: neither
// a tracer nor whoever takes in orphans is anybody's parent.
func (t *Table) Chain(key capture.Key) []*wire.Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	var chain []*wire.Process
	for n := t.nodes[key]; n != nil && len(chain) < maxChain; n = n.parent {
		chain = append(chain, t.message(n))
	}
	return chain
}

// maxAncestors is how many are named of a process.
const maxAncestors = 32

// Ancestors names who a process instance descends from, its parent first; nil if it is not known. They are as in [Chain].
func (t *Table) Ancestors(id *wire.ProcessId) []*wire.Ancestor {
	chain := t.Chain(capture.Key{Tgid: id.GetTgid(), Start: id.GetStartBoot(), ExecID: id.GetExecId()})
	if len(chain) < 2 {
		return nil
	}
	chain = chain[1:min(len(chain), maxAncestors+1)]
	out := make([]*wire.Ancestor, len(chain))
	for i, p := range chain {
		out[i] = &wire.Ancestor{
			Tgid: p.GetId().GetTgid(), Name: p.GetName(), Path: p.GetExecutable().GetPath(), Scope: p.GetExecutable().GetScope(),
			Sha256: p.GetExecutable().GetSha256(),
		}
	}
	return out
}

func (t *Table) lineageOf(n *node) Lineage {
	l := Lineage{Process: t.message(n)}
	if n.parent != nil {
		l.Parent = t.message(n.parent)
		if n.parent.parent != nil {
			l.Grandparent = t.message(n.parent.parent)
		}
	}
	return l
}

// message gives the node's wire form, made anew only when its executable has changed.
func (t *Table) message(n *node) *wire.Process {
	if n.exe != nil && n.exe.status == wire.HashStatus_HASH_PENDING {
		n.exe.told = true
	}
	if n.message != nil && (n.exe == nil || n.version == n.exe.version) && t.atHome(n.facts) {
		return n.message
	}
	p := n.facts
	m := &wire.Process{
		Id: t.processID(p.Key), InnerPid: p.InnerPid,
		Name: name(p.Name), CommandLine: text(p.Arguments, wire.MaxCommandLine), ClaimedCommandLine: n.claimed,
		Ruid: p.UID, Euid: p.EUID, Rgid: p.GID, Loginuid: p.LoginUID, Session: p.Session, Tty: p.Tty,
		Cgroup: &wire.Cgroup{Id: p.CgroupID, Path: t.cgroup(p.CgroupID)},
		Unit:   n.unit, PidNamespace: p.PidNS, MountNamespace: p.MountNS, Attribution: p.Attribution,
		Executable: &wire.Executable{
			Path: text(p.Path, wire.MaxPath), Superblock: p.File.Superblock, Device: p.File.Device,
			Inode: p.File.Inode, Ctime: p.File.Ctime, Size: p.File.Size,
		},
	}
	if p.Script.Length > 0 {
		m.Executable.Script = text(p.Script, wire.MaxPath)
	}
	if p.Kernel {
		m.Kernel = string(p.Name)
		m.Executable = &wire.Executable{HashStatus: wire.HashStatus_HASH_KERNEL}
	}
	if n.exe != nil {
		m.Executable.Scope, m.Executable.Sha256, m.Executable.HashStatus = t.scope(p), n.exe.sha256, n.exe.status
		n.version = n.exe.version
	}
	n.message = m
	return m
}

func (t *Table) processID(k capture.Key) *wire.ProcessId {
	return &wire.ProcessId{BootId: t.options.BootID[:], Tgid: k.Tgid, StartBoot: k.Start, ExecId: k.ExecID}
}

func (t *Table) cgroup(id uint64) *wire.Text {
	if t.options.CgroupPath == nil || id == 0 {
		return nil
	}
	path := t.options.CgroupPath(id)
	return text(capture.Text{Value: capture.Bytes(path), Length: len(path)}, wire.MaxCgroup)
}

// kernelProcess stands for traffic of the kernel's own sockets.
func kernelProcess(f *capture.Flow) *wire.Process {
	return &wire.Process{
		Name: name(f.Name), Kernel: string(f.Name),
		Executable: &wire.Executable{HashStatus: wire.HashStatus_HASH_KERNEL},
	}
}

// strayProcess is what a flow itself knows of a process whose facts were lost.
func (t *Table) strayProcess(f *capture.Flow) *wire.Process {
	return &wire.Process{
		Id: t.processID(f.Process), Name: name(f.Name), Ruid: f.UID, Euid: f.UID,
		Cgroup: &wire.Cgroup{Id: f.CgroupID, Path: t.cgroup(f.CgroupID)},
		Executable: &wire.Executable{
			Superblock: f.File.Superblock, Device: f.File.Device, Inode: f.File.Inode, HashStatus: wire.HashStatus_HASH_GONE,
		},
	}
}

// withUser is the message of a process that has changed its user since it was executed.
func withUser(m *wire.Process, uid uint32) *wire.Process {
	return &wire.Process{
		Id: m.Id, InnerPid: m.InnerPid, Name: m.Name, CommandLine: m.CommandLine, ClaimedCommandLine: m.ClaimedCommandLine,
		Executable: m.Executable, Ruid: uid, Euid: m.Euid, Rgid: m.Rgid, Loginuid: m.Loginuid, Session: m.Session, Tty: m.Tty,
		Cgroup: m.Cgroup, Unit: m.Unit, PidNamespace: m.PidNamespace, MountNamespace: m.MountNamespace,
		Attribution: m.Attribution, Kernel: m.Kernel,
	}
}

func name(raw capture.Bytes) *wire.Text {
	return text(capture.Text{Value: raw, Length: len(raw)}, wire.MaxName)
}

// text bounds what a process chose and says so.
func text(raw capture.Text, limit int) *wire.Text {
	value := raw.Value[:min(len(raw.Value), limit)]
	m := &wire.Text{Value: []byte(value)}
	if whole := max(raw.Length, len(raw.Value)); whole > len(value) {
		m.Truncated, m.Length = true, uint32(whole)
	}
	return m
}
