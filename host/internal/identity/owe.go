package identity

import (
	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Owe tells that rows of an earlier host wait for the hash of what this process ran. Late will tell it, or why there is none:
// the process may run on, or the file may still be found by its path, unchanged.
func (t *Table) Owe(m *wire.Process) {
	p := factsOf(m)
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.files[fileID{file: p.File}]
	if n := t.nodes[p.Key]; n != nil && n.exe != nil && n.exe.id.file == p.File {
		e, p = n.exe, n.facts
	}
	if e == nil || !e.useful() {
		e = t.newExecutable(fileID{file: p.File}, p)
	}
	if e.status != wire.HashStatus_HASH_PENDING {
		t.late = append(t.late, Resolved{File: p.File, SHA256: e.sha256, Status: e.status})
		return
	}
	e.told = true
	t.wantFile(e, p)
}

// factsOf is what rows keep of a process, as far as it helps to find its file.
func factsOf(m *wire.Process) *capture.Process {
	id, e := m.GetId(), m.GetExecutable()
	return &capture.Process{
		Key:  capture.Key{Tgid: id.GetTgid(), Start: id.GetStartBoot(), ExecID: id.GetExecId()},
		Path: capture.Text{Value: capture.Bytes(e.GetPath().GetValue()), Length: len(e.GetPath().GetValue())}, UID: m.GetRuid(), MountNS: m.GetMountNamespace(),
		File: capture.FileKey{Superblock: e.GetSuperblock(), Device: e.GetDevice(), Inode: e.GetInode(), Ctime: e.GetCtime(), Size: e.GetSize()},
	}
}
