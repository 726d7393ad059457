package sdk

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// view is a record as the columns look at it. What a kind lacks is nil, which generated getters accept.
type view struct {
	host, epoch string // of the batch, in hexadecimal
	boot        hexCache

	record   *wire.Record
	flow     *wire.Flow
	window   *wire.Window
	local    *wire.Endpoint
	process  *wire.Process
	parent   *wire.Process
	grand    *wire.Process
	domain   *wire.Domain
	family   uint32
	protocol uint32
	netns    uint32
}

// set makes v look at r.
func (v *view) set(r *wire.Record) {
	*v = view{host: v.host, epoch: v.epoch, boot: v.boot, record: r}
	switch k := r.GetKind().(type) {
	case *wire.Record_Flow:
		f := k.Flow
		v.flow, v.window, v.local, v.domain = f, f.GetWindow(), f.GetLocal(), f.GetDomain()
		v.process, v.parent, v.grand = f.GetProcess(), f.GetParent(), f.GetGrandparent()
		v.family, v.protocol, v.netns = f.GetFamily(), f.GetProtocol(), f.GetNetns()
	case *wire.Record_Exec:
		v.window = k.Exec.GetWindow()
		v.process, v.parent, v.grand = k.Exec.GetProcess(), k.Exec.GetParent(), k.Exec.GetGrandparent()
	case *wire.Record_Listen:
		v.local, v.process = k.Listen.GetLocal(), k.Listen.GetProcess()
		v.family, v.protocol = k.Listen.GetFamily(), k.Listen.GetProtocol()
	case *wire.Record_Name:
		v.domain, v.netns = k.Name.GetDomain(), k.Name.GetNetns()
		v.process = &wire.Process{Id: k.Name.GetProcess()}
	case *wire.Record_Notice:
		v.process = k.Notice.GetProcess()
	case *wire.Record_Gap:
		v.process = k.Gap.GetProcess()
	}
}

// hexCache remembers the last conversion: every process of a record has the same boot id.
type hexCache struct {
	raw  []byte
	text string
}

func (c *hexCache) of(raw []byte) string {
	if !bytes.Equal(c.raw, raw) {
		c.raw, c.text = raw, hexText(raw)
	}
	return c.text
}

// hexText is hex.EncodeToString with one allocation instead of two for hashes and ids.
func hexText(raw []byte) string {
	var text [2 * sha256.Size]byte
	if len(raw) > sha256.Size {
		return hex.EncodeToString(raw)
	}
	return string(text[:hex.Encode(text[:], raw)])
}

func textOf(t *wire.Text) string { return Escape(t.GetValue()) }

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// localTime is a moment as a clock on the recording host's wall showed it.
func localTime(ns int64, zoneOffset int32) string {
	return time.Unix(0, ns).UTC().Add(time.Duration(zoneOffset) * time.Second).Format(time.DateTime)
}

// uidOf is -1 when it is not known whose the process is: 0 would say root.
func uidOf(p *wire.Process) int64 {
	if p == nil {
		return -1
	}
	return int64(p.GetRuid())
}

// auditID is -1 when the kernel says that it was never set.
func auditID(p *wire.Process, id uint32) int64 {
	if p == nil || id == ^uint32(0) {
		return -1
	}
	return int64(id)
}

func portOf(e *wire.Endpoint) int64 {
	if e == nil {
		return -1
	}
	return int64(e.GetPort())
}

// CommandLine joins the arguments of a command line, which are separated by NUL, as a shell would need them quoted, and
// escapes the result. Shell word splitting of the unescaped text gives the arguments back.
func CommandLine(t *wire.Text) string {
	raw := t.GetValue()
	if len(raw) == 0 {
		return ""
	}
	var line strings.Builder
	line.Grow(len(raw) + 8)
	for more := true; more; {
		var argument []byte
		argument, raw, more = bytes.Cut(raw, []byte{0})
		quote(&line, argument)
		if more {
			line.WriteByte(' ')
		}
	}
	return EscapeString(line.String())
}

// quote writes one argument: as it is when no shell gives any of its bytes a meaning, else between single quotes.
func quote(line *strings.Builder, argument []byte) {
	if plainArgument(argument) {
		line.Write(argument)
		return
	}
	line.WriteByte('\'')
	for _, c := range argument {
		if c == '\'' {
			line.WriteString(`'"'"'`)
			continue
		}
		line.WriteByte(c)
	}
	line.WriteByte('\'')
}

func plainArgument(argument []byte) bool {
	for _, c := range argument {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_@%+=:,./-", c) >= 0:
		default:
			return false
		}
	}
	return len(argument) > 0
}

// Reversed turns a domain name round, label by label, and escapes it: www.example.org becomes org.example.www, so that
// sorting brings what belongs together together.
func Reversed(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	labels := strings.Split(string(name), ".")
	slices.Reverse(labels)
	return EscapeString(strings.Join(labels, "."))
}

// Address is an endpoint's address as text: an IP address, with %scope if it has one; vsock:cid; link:interface/0xtype
// for AF_PACKET; "" when there is none.
func Address(e *wire.Endpoint) string {
	ip, ok := netip.AddrFromSlice(e.GetIp())
	switch {
	case ok && e.GetScopeId() != 0:
		return ip.WithZone(strconv.FormatUint(uint64(e.GetScopeId()), 10)).String()
	case ok:
		return ip.String()
	case e.GetCid() != 0:
		return "vsock:" + strconv.FormatUint(uint64(e.GetCid()), 10)
	case e.GetIfindex() != 0 || e.GetEthertype() != 0:
		ethertype := strconv.FormatUint(0x10000+uint64(e.GetEthertype()&0xffff), 16)[1:]
		return "link:" + strconv.FormatUint(uint64(e.GetIfindex()), 10) + "/0x" + ethertype
	}
	return ""
}

// addresses lists endpoints as address and port, separated by spaces.
func addresses(endpoints []*wire.Endpoint) string {
	texts := make([]string, len(endpoints))
	for i, e := range endpoints {
		texts[i] = Address(e)
		if strings.Contains(texts[i], ":") {
			texts[i] = "[" + texts[i] + "]"
		}
		if e.GetPort() >= 0 {
			texts[i] += ":" + strconv.Itoa(int(e.GetPort()))
		}
	}
	return strings.Join(texts, " ")
}

// unitOf is the systemd unit, containerOf the container or app, named with its runtime.
func unitOf(u *wire.Unit) string {
	if runtime := u.GetRuntime(); runtime != "" && runtime != "systemd" {
		return ""
	}
	return cmp.Or(u.GetName(), u.GetId())
}

func containerOf(u *wire.Unit) string {
	if runtime := u.GetRuntime(); runtime == "" || runtime == "systemd" {
		return ""
	}
	return u.GetRuntime() + ":" + cmp.Or(u.GetId(), u.GetName())
}

// truncatedOf names the columns whose text was cut before it was sent.
func truncatedOf(v *view) string {
	var names []string
	add := func(name string, t *wire.Text) {
		if t.GetTruncated() {
			names = append(names, name)
		}
	}
	for _, p := range []struct {
		prefix  string
		process *wire.Process
	}{{"", v.process}, {"p", v.parent}, {"g", v.grand}} {
		add(p.prefix+"exe", p.process.GetExecutable().GetPath())
		add(p.prefix+"name", p.process.GetName())
		add(p.prefix+"cmdline", p.process.GetCommandLine())
	}
	add("claimed_cmdline", v.process.GetClaimedCommandLine())
	add("script", v.process.GetExecutable().GetScript())
	add("cgroup", v.process.GetCgroup().GetPath())
	add("domain", v.domain.GetName())
	return strings.Join(names, ",")
}
