package sdktest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Records makes n records that look like an ordinary machine's: flows, with some records of every other kind among them.
// Equal seeds give equal records. They have no sequence: [Stream.Next] numbers them.
func Records(seed uint64, n int) []*wire.Record {
	g := &generator{rand: rand.New(rand.NewPCG(seed, 1))}
	records := make([]*wire.Record, n)
	for i := range records {
		if i%16 == 15 {
			records[i] = g.other(i / 16)
			continue
		}
		records[i] = &wire.Record{Kind: &wire.Record_Flow{Flow: g.flow(i)}}
	}
	return records
}

// Hostile makes flows whose texts are what an adversary would choose: bytes that are no UTF-8, NUL, line breaks,
// terminal escapes, SQL, all of the greatest length allowed, and nothing at all.
func Hostile() []*wire.Record {
	texts := [][]byte{
		{0xff, 0xfe, 0xff}, {0}, []byte("a\x00b\nc\td\re"), []byte("\x1b[2J\x1b]0;x\x07"), []byte(`'; drop table connections; --`),
		[]byte(`\x41\\`), []byte("\u202egnp.exe"), []byte("\ufffd\xff"), nil, []byte("-"), []byte("a,b\"c"),
		bytes.Repeat([]byte{0xff}, wire.MaxPath), bytes.Repeat([]byte("\x00"), wire.MaxPath),
	}
	records := make([]*wire.Record, len(texts))
	g := &generator{rand: rand.New(rand.NewPCG(0, 2))}
	for i, text := range texts {
		f := g.flow(i)
		p := f.Process
		p.Name, p.CommandLine = cut(text, wire.MaxName), cut(text, wire.MaxCommandLine)
		p.ClaimedCommandLine, p.Cgroup.Path = cut(text, wire.MaxCommandLine), cut(text, wire.MaxCgroup)
		p.Executable.Path, p.Executable.Script = cut(text, wire.MaxPath), cut(text, wire.MaxPath)
		f.Domain = &wire.Domain{Name: cut(text, wire.MaxDomain), Source: wire.NameSource_NAME_SOURCE_SNI}
		f.Parent, f.Grandparent = p, nil
		records[i] = &wire.Record{Kind: &wire.Record_Flow{Flow: f}}
	}
	return append(records, &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{}}})
}

// cut makes a Text of at most that many bytes.
func cut(value []byte, most int) *wire.Text {
	if len(value) <= most {
		return &wire.Text{Value: value}
	}
	return &wire.Text{Value: value[:most], Truncated: true, Length: uint32(len(value))}
}

// generator makes records from a seeded source.
type generator struct{ rand *rand.Rand }

// epochStart is when generated records begin: 2026-11-21 17:00 UTC.
const epochStart = int64(1_795_280_400) * int64(time.Second)

func (g *generator) flow(i int) *wire.Flow {
	remote := &wire.Endpoint{Ip: []byte{10, 1, byte(g.rand.IntN(4)), byte(g.rand.IntN(250) + 1)}, Port: 443}
	local := &wire.Endpoint{Ip: []byte{10, 0, 0, 2}, Port: int32(32768 + g.rand.IntN(28000))}
	family := uint32(2)
	if g.rand.IntN(4) == 0 {
		family = 10
		remote.Ip = append([]byte{0x20, 1, 0xd, 0xb8}, make([]byte, 12)...)
		remote.Ip[15] = byte(g.rand.IntN(200) + 1)
		local.Ip = append([]byte{0xfe, 0x80}, make([]byte, 14)...)
		local.ScopeId = 2
	}
	return &wire.Flow{
		Window: g.window(i),
		Sent:   uint64(g.rand.IntN(100_000)), Received: uint64(g.rand.IntN(1_000_000)),
		Sends: uint64(g.rand.IntN(100)), Receives: uint64(g.rand.IntN(100)), Connects: 1,
		Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_OPEN, Layer: wire.Layer_LAYER_SOCKET,
		Family: family, Protocol: 6, Local: local, Remote: remote, Peer: wire.Peer_PEER_EXACT,
		Domain: &wire.Domain{Name: text("www.host-%d.example.org", g.rand.IntN(50)), Source: wire.NameSource_NAME_SOURCE_GETADDRINFO},
		Socket: g.rand.Uint64() >> 1, Netns: 4026531840,
		Process: g.process("curl"), Parent: g.process("bash"), Grandparent: g.process("sshd"),
		Attribution: wire.Attribution_ATTRIBUTION_KERNEL, Counting: wire.Counting_COUNTING_TRACEPOINT,
	}
}

func (g *generator) window(i int) *wire.Window {
	const length = int64(10 * time.Second)
	start := epochStart + int64(i/8)*length
	return &wire.Window{Start: start, End: start + length, StartBoot: int64(i/8) * length, EndBoot: int64(i/8+1) * length,
		ZoneOffset: 3600}
}

func (g *generator) process(name string) *wire.Process {
	which := g.rand.IntN(20)
	return &wire.Process{
		Id:   &wire.ProcessId{BootId: bytes.Repeat([]byte{7}, 16), Tgid: uint32(1000 + which), StartBoot: int64(which) * 1e9, ExecId: 1},
		Name: text("%s-%d", name, which), CommandLine: text("%s\x00--silent\x00https://host-%d.example.org/?a b", name, which),
		Executable: &wire.Executable{
			Path: text("/usr/bin/%s-%d", name, which), Superblock: 1, Device: 2049, Inode: uint64(9000 + which),
			Ctime: epochStart, Size: 123456, Sha256: bytes.Repeat([]byte{byte(which)}, 32), HashStatus: wire.HashStatus_HASH_OK,
		},
		Ruid: 1000, Euid: 1000, Rgid: 1000, Loginuid: 1000, Session: 3, Tty: "pts/1",
		Cgroup:       &wire.Cgroup{Id: 77, Path: text("/user.slice/user-1000.slice")},
		Unit:         &wire.Unit{Name: "user@1000.service", Runtime: "systemd"},
		PidNamespace: 4026531836, MountNamespace: 4026531841, Attribution: wire.Attribution_ATTRIBUTION_KERNEL,
	}
}

// other makes the i-th record that is no flow.
func (g *generator) other(i int) *wire.Record {
	at := g.window(i * 16).End
	switch i % 8 {
	case 0:
		return &wire.Record{Kind: &wire.Record_Exec{Exec: &wire.Exec{Window: g.window(i), Process: g.process("make")}}}
	case 1:
		return &wire.Record{Kind: &wire.Record_Listen{Listen: &wire.Listen{Time: at, Family: 2, Protocol: 6,
			Local: &wire.Endpoint{Ip: []byte{0, 0, 0, 0}, Port: 22}, Process: g.process("sshd")}}}
	case 2:
		return &wire.Record{Kind: &wire.Record_Name{Name: &wire.Name{Time: at, Ip: []byte{10, 1, 2, 3},
			Domain: &wire.Domain{Name: text("example.org"), Source: wire.NameSource_NAME_SOURCE_DNS_PROCESS}}}}
	case 3:
		return &wire.Record{Kind: &wire.Record_Notice{Notice: &wire.Notice{Time: at,
			Kind: wire.NoticeKind_NOTICE_NEW_EXECUTABLE, Text: text("new executable"), Process: g.process("curl")}}}
	case 4:
		return &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{Start: at - 1e9, End: at,
			Reason: wire.GapReason_GAP_EVENTS_LOST, Cause: "ring", Events: 3}}}
	case 5:
		return &wire.Record{Kind: &wire.Record_Verdict{Verdict: &wire.Verdict{Time: at, Sha256: make([]byte, 32), Source: "virustotal",
			Text: "clean"}}}
	case 6:
		return &wire.Record{Kind: &wire.Record_HashResolved{HashResolved: &wire.HashResolved{Time: at, Superblock: 1, Device: 2049,
			Inode: 9001, Sha256: make([]byte, 32), HashStatus: wire.HashStatus_HASH_OK, Epoch: make([]byte, 16), First: 1, Last: 2}}}
	}
	return &wire.Record{Kind: &wire.Record_Config{Config: &wire.Config{Time: at, Source: text("config.json"),
		Changed: []string{"Log ports"}}}}
}

func text(format string, arguments ...any) *wire.Text {
	return &wire.Text{Value: fmt.Appendf(nil, format, arguments...)}
}
