package sdk

import (
	"fmt"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// checkRecord finds the first text, address or hash of a record that is larger than the contract allows.
func checkRecord(r *wire.Record) error {
	l := limits{}
	switch k := r.GetKind().(type) {
	case *wire.Record_Flow:
		l.flow(k.Flow)
	case *wire.Record_Exec:
		l.process("exec.process", k.Exec.GetProcess())
		l.process("exec.parent", k.Exec.GetParent())
		l.process("exec.grandparent", k.Exec.GetGrandparent())
	case *wire.Record_Listen:
		l.endpoint("listen", "local.ip", k.Listen.GetLocal())
		l.process("listen.process", k.Listen.GetProcess())
	case *wire.Record_Name:
		l.domain("name", "domain", k.Name.GetDomain())
		l.address("name", "ip", k.Name.GetIp())
	case *wire.Record_Notice:
		l.text("notice", "text", k.Notice.GetText(), wire.MaxPath)
		l.process("notice.process", k.Notice.GetProcess())
	case *wire.Record_Gap:
		l.process("gap.process", k.Gap.GetProcess())
	case *wire.Record_Verdict:
		l.hash("verdict", "sha256", k.Verdict.GetSha256())
	case *wire.Record_HashResolved:
		l.hash("hash_resolved", "sha256", k.HashResolved.GetSha256())
	case *wire.Record_Config:
		l.text("config", "source", k.Config.GetSource(), wire.MaxPath)
	}
	return l.err
}

// limits remembers the first excess.
type limits struct{ err error }

func (l *limits) flow(f *wire.Flow) {
	l.endpoint("flow", "local.ip", f.GetLocal())
	l.endpoint("flow", "remote.ip", f.GetRemote())
	for _, e := range f.GetCandidates() {
		l.endpoint("flow", "candidates.ip", e)
	}
	l.domain("flow", "domain", f.GetDomain())
	for _, d := range f.GetDomains() {
		l.domain("flow", "domains", d)
	}
	l.process("flow.process", f.GetProcess())
	l.process("flow.parent", f.GetParent())
	l.process("flow.grandparent", f.GetGrandparent())
}

func (l *limits) process(where string, p *wire.Process) {
	if p == nil || l.err != nil {
		return
	}
	l.text(where, "name", p.GetName(), wire.MaxName)
	l.text(where, "command_line", p.GetCommandLine(), wire.MaxCommandLine)
	l.text(where, "claimed_command_line", p.GetClaimedCommandLine(), wire.MaxCommandLine)
	l.text(where, "cgroup.path", p.GetCgroup().GetPath(), wire.MaxCgroup)
	l.text(where, "executable.path", p.GetExecutable().GetPath(), wire.MaxPath)
	l.text(where, "executable.script", p.GetExecutable().GetScript(), wire.MaxPath)
	l.hash(where, "executable.sha256", p.GetExecutable().GetSha256())
}

func (l *limits) domain(where, field string, d *wire.Domain) {
	l.text(where, field, d.GetName(), wire.MaxDomain)
}

func (l *limits) endpoint(where, field string, e *wire.Endpoint) { l.address(where, field, e.GetIp()) }

func (l *limits) text(where, field string, t *wire.Text, most int) {
	if size := len(t.GetValue()); size > most && l.err == nil {
		l.err = fmt.Errorf("%s.%s: %d bytes, at most %d", where, field, size, most)
	}
}

func (l *limits) address(where, field string, ip []byte) {
	if size := len(ip); size != 0 && size != 4 && size != 16 && l.err == nil {
		l.err = fmt.Errorf("%s.%s: %d bytes, want 4 or 16", where, field, size)
	}
}

func (l *limits) hash(where, field string, sum []byte) {
	if size := len(sum); size != 0 && size != 32 && l.err == nil {
		l.err = fmt.Errorf("%s.%s: %d bytes, want 32", where, field, size)
	}
}
