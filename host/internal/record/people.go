package record

import (
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// privacy turns what identity knows of a process into what may be recorded. It is read-only.
type privacy struct {
	commands bool
	redactor *redactor
}

// process gives p itself where nothing has to go, else a copy: p is shared.
func (v privacy) process(p *wire.Process) *wire.Process {
	command, claimed := v.text(p.GetCommandLine()), v.text(p.GetClaimedCommandLine())
	if p == nil || (command == p.CommandLine && claimed == p.ClaimedCommandLine) {
		return p
	}
	out := proto.CloneOf(p)
	out.CommandLine, out.ClaimedCommandLine = command, claimed
	return out
}

// Recordable gives what may be recorded of a process: p itself, or a copy without what privacy keeps to itself. It may be
// called from any goroutine.
func (r *Recorder) Recordable(p *wire.Process) *wire.Process { return r.privacy.process(p) }

func (v privacy) text(t *wire.Text) *wire.Text {
	if !v.commands {
		return nil // not even a length: it is a fingerprint
	}
	return v.redactor.text(t)
}

// people makes equal processes one message, so that rows can be compared by address. It lives for one window.
type people struct {
	privacy privacy
	met     map[*wire.Process]*wire.Process // as identity gave it → as it is recorded
	equal   map[string]*wire.Process        // by content
}

func newPeople(v privacy) *people {
	return &people{privacy: v, met: map[*wire.Process]*wire.Process{}, equal: map[string]*wire.Process{}}
}

func (s *people) process(p *wire.Process) *wire.Process {
	if p == nil {
		return nil
	}
	if known, ok := s.met[p]; ok {
		return known
	}
	recorded := s.privacy.process(p)
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(recorded)
	if err == nil { // invalid UTF-8 in a string field is the only error, and then the address has to do
		if known, ok := s.equal[string(content)]; ok {
			recorded = known
		} else {
			s.equal[string(content)] = recorded
		}
	}
	s.met[p] = recorded
	return recorded
}

func (s *people) lineage(l identity.Lineage) identity.Lineage {
	return identity.Lineage{
		Process:     s.process(l.Process),
		Parent:      s.process(l.Parent),
		Grandparent: s.process(l.Grandparent),
	}
}

// stranger is what a flow itself knows of a process that identity does not know.
func stranger(f *capture.Flow) *wire.Process {
	p := &wire.Process{
		Id:       &wire.ProcessId{Tgid: f.Process.Tgid, StartBoot: f.Process.Start, ExecId: f.Process.ExecID},
		Name:     &wire.Text{Value: []byte(f.Name)},
		Ruid:     f.UID,
		Euid:     f.UID,
		Loginuid: ^uint32(0),
		Session:  ^uint32(0),
		Cgroup:   &wire.Cgroup{Id: f.CgroupID},
		Executable: &wire.Executable{
			Superblock: f.File.Superblock, Device: f.File.Device, Inode: f.File.Inode,
			HashStatus: wire.HashStatus_HASH_GONE,
		},
		Attribution: f.Attribution,
	}
	if f.Kernel {
		p.Kernel, p.Executable.HashStatus = "kernel", wire.HashStatus_HASH_KERNEL
	}
	return p
}

// unplaced is what an event of its own tells of a process that identity does not know.
func unplaced(p *capture.Process) *wire.Process {
	return &wire.Process{
		Id:          &wire.ProcessId{Tgid: p.Key.Tgid, StartBoot: p.Key.Start, ExecId: p.Key.ExecID},
		InnerPid:    p.InnerPid,
		Name:        &wire.Text{Value: []byte(p.Name)},
		CommandLine: wireText(p.Arguments),
		Executable: &wire.Executable{
			Path: wireText(p.Path), Superblock: p.File.Superblock, Device: p.File.Device, Inode: p.File.Inode,
			Ctime: p.File.Ctime, Size: p.File.Size, HashStatus: wire.HashStatus_HASH_GONE,
		},
		Ruid: p.UID, Euid: p.EUID, Rgid: p.GID, Loginuid: p.LoginUID, Session: p.Session, Tty: p.Tty,
		Cgroup: &wire.Cgroup{Id: p.CgroupID}, PidNamespace: p.PidNS, MountNamespace: p.MountNS, Attribution: p.Attribution,
	}
}

func wireText(t capture.Text) *wire.Text {
	out := &wire.Text{Value: []byte(t.Value)}
	if t.Length > len(t.Value) {
		out.Truncated, out.Length = true, uint32(t.Length)
	}
	return out
}
