package sdk

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// someFlow sets every field that a column shows, each to something of its own.
func someFlow() (*wire.Record, *wire.Batch) {
	text := func(s string) *wire.Text { return &wire.Text{Value: []byte(s)} }
	hash := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	r := &wire.Record{Sequence: 7, Kind: &wire.Record_Flow{Flow: &wire.Flow{
		Window: &wire.Window{Start: 1795280390_000000000, End: 1795280400_123456789, ZoneOffset: -12600},
		Sent:   1 << 40, Received: 5, Sends: 2, Receives: 3, Connects: 4, Accepts: 6, Failures: 1, Listens: 8,
		Direction: wire.Direction_DIRECTION_OUT, Result: wire.Result_RESULT_TIMED_OUT, Layer: wire.Layer_LAYER_SOCKET,
		Family: 10, Protocol: 6,
		Local:  &wire.Endpoint{Ip: []byte{10, 0, 0, 1}, Port: 40000, Mapped: true},
		Remote: &wire.Endpoint{Ip: []byte{192, 0, 2, 1}, Port: 443},
		Peer:   wire.Peer_PEER_INFERRED, FoldedPeers: 9,
		Candidates: []*wire.Endpoint{{Ip: []byte{192, 0, 2, 1}, Port: 443}, {Ip: append([]byte{0x20, 1}, make([]byte, 14)...), Port: 53}},
		Domain:     &wire.Domain{Name: text("www.example.org"), Source: wire.NameSource_NAME_SOURCE_SNI},
		Socket:     11, Netns: 12, Ifindex: 13, IcmpType: 14, IcmpCode: 15,
		Process: &wire.Process{
			Id:       &wire.ProcessId{BootId: bytes.Repeat([]byte{0xab}, 16), Tgid: 16, StartBoot: 17, ExecId: 18},
			InnerPid: 19, Name: text("cu\xffrl"), CommandLine: text("curl\x00-H\x00it's\x00\x00ü"),
			ClaimedCommandLine: &wire.Text{Value: []byte("idle"), Truncated: true},
			Executable: &wire.Executable{Path: text("/usr/bin/cürl"), Scope: "mntns:1", Superblock: 20, Device: 21, Inode: 1<<64 - 1,
				Ctime: 22, Size: 23, Sha256: hash(0xcd), HashStatus: wire.HashStatus_HASH_RACY, Script: text("/tmp/x.py"), Package: "curl 8"},
			Ruid: 0, Euid: 24, Rgid: 25, Loginuid: ^uint32(0), Session: 26, Tty: "pts/0",
			Cgroup: &wire.Cgroup{Path: text("/a/b")}, Unit: &wire.Unit{Id: "abc", Runtime: "docker", Verified: true},
			PidNamespace: 27, MountNamespace: 28, Kernel: "nfs",
		},
		Parent: &wire.Process{Id: &wire.ProcessId{Tgid: 29}, Name: text("bash"), CommandLine: text("-bash"), Ruid: 30,
			Executable: &wire.Executable{Path: text("/bin/bash"), Scope: "s", Sha256: hash(1), HashStatus: wire.HashStatus_HASH_OK}},
		Grandparent: &wire.Process{Id: &wire.ProcessId{Tgid: 31}, Name: text("sshd"), CommandLine: text("sshd: user"), Ruid: 32,
			Executable: &wire.Executable{Path: &wire.Text{Value: []byte("/sshd"), Truncated: true}, HashStatus: wire.HashStatus_HASH_GONE}},
		Attribution: wire.Attribution_ATTRIBUTION_LISTENER, Counting: wire.Counting_COUNTING_FEXIT, Existing: true,
	}}}
	b := &wire.Batch{HostId: bytes.Repeat([]byte{1}, 16), Epoch: bytes.Repeat([]byte{2}, 16), First: 7, Last: 7, Records: []*wire.Record{r}}
	return r, b
}

// someRow is what someFlow looks like flat.
func someRow() [][2]string {
	return [][2]string{
		{"contime", "2026-11-21 13:30:00"}, {"send", "1099511627776"}, {"recv", "5"}, {"exe", "/usr/bin/cürl"}, {"name", `cu\xffrl`},
		{"cmdline", `curl -H 'it'"'"'s' '' 'ü'`}, {"sha256", strings.Repeat("cd", 32)},
		{"pexe", "/bin/bash"}, {"pname", "bash"}, {"pcmdline", "-bash"}, {"psha256", strings.Repeat("01", 32)},
		{"uid", "0"}, {"lport", "40000"}, {"rport", "443"}, {"laddr", "10.0.0.1"}, {"raddr", "192.0.2.1"}, {"domain", "org.example.www"},
		{"host_id", strings.Repeat("01", 16)}, {"epoch", strings.Repeat("02", 16)}, {"seq", "7"},
		{"window_start", "1795280390000000000"}, {"window_end", "1795280400123456789"},
		{"sends", "2"}, {"receives", "3"}, {"connects", "4"}, {"accepts", "6"}, {"failures", "1"}, {"listens", "8"},
		{"direction", "out"}, {"result", "timed-out"}, {"layer", "socket"}, {"family", "10"}, {"protocol", "6"}, {"peer", "inferred"},
		{"folded_peers", "9"}, {"candidates", "192.0.2.1:443 [2001::]:53"}, {"domain_source", "sni"}, {"mapped", "1"}, {"netns", "12"},
		{"ifindex", "13"}, {"socket", "11"}, {"icmp_type", "14"}, {"icmp_code", "15"}, {"attribution", "listener"}, {"counting", "fexit"},
		{"existing", "1"},
		{"pid", "16"}, {"inner_pid", "19"}, {"start_time", "17"}, {"exec_id", "18"}, {"boot_id", strings.Repeat("ab", 16)},
		{"euid", "24"}, {"gid", "25"}, {"loginuid", "-1"}, {"session", "26"}, {"tty", "pts/0"}, {"cgroup", "/a/b"}, {"unit", ""},
		{"container", "docker:abc"}, {"unit_verified", "1"}, {"kernel", "nfs"}, {"exe_scope", "mntns:1"}, {"hash_status", "racy"},
		{"script", "/tmp/x.py"}, {"package", "curl 8"}, {"claimed_cmdline", "idle"}, {"pid_ns", "27"}, {"mnt_ns", "28"},
		{"superblock", "20"}, {"dev", "21"}, {"inode", "-1"}, {"ctime", "22"}, {"size", "23"},
		{"ppid", "29"}, {"puid", "30"}, {"pexe_scope", "s"}, {"phash_status", "ok"},
		{"gexe", "/sshd"}, {"gname", "sshd"}, {"gcmdline", "'sshd: user'"}, {"gsha256", ""}, {"gpid", "31"}, {"guid", "32"},
		{"gexe_scope", ""}, {"ghash_status", "gone"}, {"truncated", "gexe,claimed_cmdline"},
	}
}

// TestTheFlatRowNeverChanges is golden on purpose: databases and hash chains are made of these names, words and order.
func TestTheFlatRowNeverChanges(t *testing.T) {
	t.Parallel()
	r, b := someFlow()
	row := Row(r, b)
	var got [][2]string
	for i, c := range Columns() {
		got = append(got, [2]string{c.Name, row[i].String()})
		if row[i].Type() != c.Type || c.Doc == "" {
			t.Errorf("column %s: type %s and doc %q, its value is %s", c.Name, c.Type, c.Doc, row[i].Type())
		}
	}
	if diff := cmp.Diff(someRow(), got); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
}

func TestTheFirst17ColumnsAreThoseOf1_0_3(t *testing.T) {
	t.Parallel()
	const want = "contime send recv exe name cmdline sha256 pexe pname pcmdline psha256 uid lport rport laddr raddr domain"
	var got []string
	for _, c := range Columns()[:17] {
		got = append(got, c.Name)
	}
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestWhatAFlowDoesNotSayIsNotMadeUp(t *testing.T) {
	t.Parallel()
	r := &wire.Record{Kind: &wire.Record_Flow{Flow: &wire.Flow{}}}
	row := Row(r, &wire.Batch{})
	for i, c := range Columns() {
		want := "0"
		switch {
		case slices.Contains([]string{"uid", "euid", "gid", "loginuid", "session", "puid", "guid", "lport", "rport"}, c.Name):
			want = "-1" // 0 would be root, or a port
		case c.Name == "contime":
			want = "1970-01-01 00:00:00"
		case c.Type == Text:
			want = ""
		}
		if got := row[i].String(); got != want {
			t.Errorf("%s: got %q, want %q", c.Name, got, want)
		}
	}
}

// everyKind is one empty record of each kind.
func everyKind() []*wire.Record {
	return []*wire.Record{
		{}, {Kind: &wire.Record_Flow{}}, {Kind: &wire.Record_Exec{}}, {Kind: &wire.Record_Listen{}}, {Kind: &wire.Record_Name{}},
		{Kind: &wire.Record_Notice{}}, {Kind: &wire.Record_Gap{}}, {Kind: &wire.Record_Verdict{}},
		{Kind: &wire.Record_HashResolved{}}, {Kind: &wire.Record_Config{}},
	}
}

func TestEveryKindHasAFlatRow(t *testing.T) {
	t.Parallel()
	kinds := map[Kind]bool{}
	for _, r := range everyKind() {
		kind := KindOf(r)
		kinds[kind] = true
		columns, row := ColumnsOf(kind), Row(r, &wire.Batch{})
		if len(row) != len(columns) || len(row) < 3 {
			t.Errorf("%s: %d values for %d columns", kind, len(row), len(columns))
			continue
		}
		seen := map[string]bool{}
		for i, c := range columns {
			if row[i].Type() != c.Type || c.Doc == "" || seen[c.Name] {
				t.Errorf("%s.%s: type %s, value %s, doc %q, twice: %v", kind, c.Name, c.Type, row[i].Type(), c.Doc, seen[c.Name])
			}
			seen[c.Name] = true
		}
	}
	if want := (&wire.Record{}).ProtoReflect().Descriptor().Oneofs().Get(0).Fields().Len() + 1; len(kinds) != want {
		t.Errorf("%d kinds, the contract has %d with the unknown one", len(kinds), want)
	}
}

func TestEveryEnumValueHasItsOwnWord(t *testing.T) {
	t.Parallel()
	for name, enum := range map[string]struct {
		values map[int32]string
		word   func(int32) string
	}{
		"direction":   {wire.Direction_name, func(n int32) string { return DirectionWord(wire.Direction(n)) }},
		"result":      {wire.Result_name, func(n int32) string { return ResultWord(wire.Result(n)) }},
		"layer":       {wire.Layer_name, func(n int32) string { return LayerWord(wire.Layer(n)) }},
		"peer":        {wire.Peer_name, func(n int32) string { return PeerWord(wire.Peer(n)) }},
		"name source": {wire.NameSource_name, func(n int32) string { return NameSourceWord(wire.NameSource(n)) }},
		"attribution": {wire.Attribution_name, func(n int32) string { return AttributionWord(wire.Attribution(n)) }},
		"counting":    {wire.Counting_name, func(n int32) string { return CountingWord(wire.Counting(n)) }},
		"hash status": {wire.HashStatus_name, func(n int32) string { return HashStatusWord(wire.HashStatus(n)) }},
		"notice":      {wire.NoticeKind_name, func(n int32) string { return NoticeWord(wire.NoticeKind(n)) }},
		"gap":         {wire.GapReason_name, func(n int32) string { return GapWord(wire.GapReason(n)) }},
	} {
		for n, long := range enum.values {
			// The word is the end of the contract's own name: DIRECTION_OUT is "out".
			word := strings.ToUpper(strings.ReplaceAll(enum.word(n), "-", "_"))
			if n > 0 && (word == "" || !strings.HasSuffix(long, "_"+word)) || n == 0 && word != "" {
				t.Errorf("%s: %s is %q", name, long, enum.word(n))
			}
		}
		if got := enum.word(99); got != "99" {
			t.Errorf("%s: a value of the future is %q, want 99", name, got)
		}
	}
}

func TestAddressesAsText(t *testing.T) {
	t.Parallel()
	local := append([]byte{0xfe, 0x80}, make([]byte, 14)...)
	for _, test := range []struct {
		endpoint *wire.Endpoint
		want     string
	}{
		{nil, ""},
		{&wire.Endpoint{Port: 5}, ""},
		{&wire.Endpoint{Ip: []byte{1, 2}}, ""},
		{&wire.Endpoint{Ip: []byte{127, 0, 0, 1}}, "127.0.0.1"},
		{&wire.Endpoint{Ip: make([]byte, 16)}, "::"},
		{&wire.Endpoint{Ip: local, ScopeId: 3}, "fe80::%3"},
		{&wire.Endpoint{Cid: 2, Port: 22}, "vsock:2"},
		{&wire.Endpoint{Ifindex: 4, Ethertype: 0x800}, "link:4/0x0800"},
	} {
		if got := Address(test.endpoint); got != test.want {
			t.Errorf("Address(%v) = %q, want %q", test.endpoint, got, test.want)
		}
	}
}

func TestDomainsAreReversed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"": "", "localhost": "localhost", "www.example.org": "org.example.www", "a..b": "b..a", "x.\xff": `\xff.x`,
	} {
		if got := Reversed([]byte(name)); got != want {
			t.Errorf("Reversed(%q) = %q, want %q", name, got, want)
		}
	}
}
