package main

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// event is one line of events: a kind, and what is told of it in a fixed order.
type event struct {
	time int64
	kind string
	// Of the kinds of records, one; none for "lagged".
	live   *wire.LiveFlow
	record *wire.Record
	missed uint64
}

// pair is a key of --json and its value: string, number, true or a list.
type pair struct {
	key   string
	value any
}

// eventsOf gives the lines of a page: first what was missed, then records, which are older than the flows.
func eventsOf(p *wire.WatchPage) []event {
	var all []event
	if p.GetLagged() > 0 {
		all = append(all, event{time: p.GetTime(), kind: "lagged", missed: p.GetLagged()})
	}
	for _, r := range p.GetRecords() {
		e := event{time: p.GetTime(), record: r}
		switch k := r.GetKind().(type) {
		case *wire.Record_Exec:
			e.kind, e.time = "exec", k.Exec.GetWindow().GetStart()
		case *wire.Record_Notice:
			e.kind, e.time = "notice", k.Notice.GetTime()
		case *wire.Record_Gap:
			e.kind, e.time = "gap", k.Gap.GetEnd()
		default:
			continue // a newer daemon's
		}
		all = append(all, e)
	}
	for _, f := range p.GetFlows() {
		all = append(all, event{time: p.GetTime(), kind: "flow", live: f})
	}
	return all
}

// pairs is everything that --json tells.
func (e event) pairs() []pair {
	all := []pair{{"time", instant(e.time)}, {"kind", e.kind}}
	switch e.kind {
	case "lagged":
		return append(all, pair{"missed", e.missed})
	case "exec":
		x := e.record.GetExec()
		return append(all, processPairs(x.GetProcess(), x.GetParent(), x.GetGrandparent())...)
	case "notice":
		n := e.record.GetNotice()
		all = append(all, pair{"notice", sdk.NoticeWord(n.GetKind())}, pair{"text", escaped(n.GetText())})
		return append(append(all, processPairs(n.GetProcess(), nil, nil)...), ancestorPairs(n.GetAncestors())...)
	case "gap":
		g := e.record.GetGap()
		return append(all, pair{"start", instant(g.GetStart())}, pair{"end", instant(g.GetEnd())},
			pair{"reason", sdk.GapWord(g.GetReason())}, pair{"cause", sdk.EscapeString(g.GetCause())},
			pair{"events", g.GetEvents()}, pair{"sink", sdk.EscapeString(g.GetSink())})
	}
	return append(all, flowPairs(e.live)...)
}

func flowPairs(l *wire.LiveFlow) []pair {
	f := l.GetFlow()
	all := []pair{
		{"sent_rate", l.GetSentRate()}, {"received_rate", l.GetReceivedRate()},
		{"sent", f.GetSent()}, {"received", f.GetReceived()}, {"sends", f.GetSends()}, {"receives", f.GetReceives()},
		{"direction", sdk.DirectionWord(f.GetDirection())}, {"result", sdk.ResultWord(f.GetResult())},
		{"protocol", f.GetProtocol()},
		{"laddr", sdk.Address(f.GetLocal())}, {"lport", f.GetLocal().GetPort()},
		{"raddr", sdk.Address(f.GetRemote())}, {"rport", f.GetRemote().GetPort()},
		{"domain", sdk.Reversed(f.GetDomain().GetName().GetValue())},
	}
	all = append(all, domainPairs(f.GetDomains())...)
	all = append(all, processPairs(f.GetProcess(), f.GetParent(), f.GetGrandparent())...)
	return append(all, ancestorPairs(l.GetAncestors())...)
}

// domainPairs is every name of the remote address and how it is known, the best first.
func domainPairs(domains []*wire.Domain) []pair {
	if len(domains) == 0 {
		return nil
	}
	type known struct {
		Domain string `json:"domain"`
		Source string `json:"source"`
	}
	names := make([]known, len(domains))
	for i, d := range domains {
		names[i] = known{sdk.Reversed(d.GetName().GetValue()), sdk.NameSourceWord(d.GetSource())}
	}
	return []pair{{"domains", names}}
}

// ancestorPairs is who started the process, who started that one, and so on.
func ancestorPairs(ancestors []*wire.Ancestor) []pair {
	if len(ancestors) == 0 {
		return nil
	}
	names := make([]string, len(ancestors))
	for i, a := range ancestors {
		names[i] = exeOf(&wire.Process{Name: a.GetName(), Executable: &wire.Executable{Path: a.GetPath(), Scope: a.GetScope()}})
		if names[i] == "" {
			names[i] = escaped(a.GetName())
		}
	}
	return []pair{{"ancestors", names}}
}

// processPairs is nothing where there is no process: a uid of 0 would say root.
func processPairs(p, parent, grand *wire.Process) []pair {
	if p == nil {
		return nil
	}
	return []pair{
		{"exe", exeOf(p)}, {"name", escaped(p.GetName())}, {"cmdline", sdk.CommandLine(p.GetCommandLine())},
		{"sha256", hex.EncodeToString(p.GetExecutable().GetSha256())},
		{"pid", p.GetId().GetTgid()}, {"uid", p.GetRuid()},
		{"pexe", exeOf(parent)}, {"pname", escaped(parent.GetName())}, {"gexe", exeOf(grand)},
		{"unit", unitName(p.GetUnit(), true)}, {"container", unitName(p.GetUnit(), false)},
	}
}

// exeOf is a path with its scope before it, if it has one.
func exeOf(p *wire.Process) string {
	x := p.GetExecutable()
	if x.GetScope() != "" {
		return sdk.EscapeString(x.GetScope()) + ":" + escaped(x.GetPath())
	}
	if p.GetKernel() != "" {
		return "kernel: " + sdk.EscapeString(p.GetKernel())
	}
	return escaped(x.GetPath())
}

// unitName is the systemd unit, or the container or app as runtime:id, as the columns of those names have it. The strings of
// a Unit are escaped already.
func unitName(u *wire.Unit, systemd bool) string {
	runtime := u.GetRuntime()
	if (runtime == "" || runtime == "systemd") != systemd {
		return ""
	}
	if systemd {
		return oneLine(cmp.Or(u.GetName(), u.GetId()))
	}
	return oneLine(runtime + ":" + cmp.Or(u.GetId(), u.GetName()))
}

// eventJSON is one object in one line.
func eventJSON(e event) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	separator := byte('{')
	for _, p := range e.pairs() {
		out.WriteByte(separator)
		separator = ','
		out.WriteString(strconv.Quote(p.key) + ":")
		if err := encoder.Encode(p.value); err != nil {
			return "", fmt.Errorf("encode %s: %w", p.key, err)
		}
		out.Truncate(out.Len() - 1) // the line break that Encode adds
	}
	return out.String() + "}", nil
}

// eventText is one line for a person.
func eventText(e event) (string, error) {
	at := time.Unix(0, e.time).Format(time.TimeOnly)
	switch e.kind {
	case "lagged":
		return fmt.Sprintf("%s lagged  %d flows and records were missed", at, e.missed), nil
	case "exec":
		p := e.record.GetExec().GetProcess()
		return fmt.Sprintf("%s exec    %s  %s", at, who(p), sdk.CommandLine(p.GetCommandLine())), nil
	case "notice":
		n := e.record.GetNotice()
		return fmt.Sprintf("%s notice  %s: %s", at, sdk.NoticeWord(n.GetKind()), escaped(n.GetText())), nil
	case "gap":
		return fmt.Sprintf("%s %s", at, oneLine(gapText(e.record.GetGap()))), nil
	}
	f := e.live.GetFlow()
	return fmt.Sprintf("%s flow    %s  %s  %s/s sent  %s/s received", at, who(f.GetProcess()), peerText(f),
		kilobytes(e.live.GetSentRate()), kilobytes(e.live.GetReceivedRate())), nil
}

func who(p *wire.Process) string {
	name := exeOf(p)
	if name == "" {
		name = escaped(p.GetName())
	}
	return fmt.Sprintf("%s[%d]", name, p.GetId().GetTgid())
}

// peerText is the other end, by name if it has one.
func peerText(f *wire.Flow) string {
	arrow := map[wire.Direction]string{wire.Direction_DIRECTION_IN: "<-", wire.Direction_DIRECTION_OUT: "->"}[f.GetDirection()]
	if arrow == "" {
		arrow = "--"
	}
	peer := sdk.Address(f.GetRemote())
	if name := f.GetDomain().GetName(); len(name.GetValue()) > 0 {
		peer = escaped(name)
	}
	switch {
	case peer == "" && f.GetResult() == wire.Result_RESULT_LISTENING:
		return "listens on " + endText(sdk.Address(f.GetLocal()), f.GetLocal().GetPort())
	case peer == "":
		return arrow + " (no peer)"
	}
	return arrow + " " + endText(peer, f.GetRemote().GetPort())
}

func endText(host string, port int32) string {
	if port < 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}
