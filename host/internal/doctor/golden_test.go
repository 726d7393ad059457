package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden compares with a file of testdata, or writes it when UPDATE_GOLDEN is set.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); UPDATE_GOLDEN=1 go test writes it anew:\n%s", path, diff)
	}
}

// well is a machine on which everything works.
func well() Facts {
	return Facts{
		Version: "2.0.0", Instance: "default",
		Kernel:     Kernel{Release: "6.12.48+deb13-amd64", Machine: "x86_64"},
		Types:      Types{Path: typesPath, Bytes: 5515646},
		Lockdown:   Lockdown{Mode: "none"},
		Cgroup:     Cgroup{Path: "/sys/fs/cgroup"},
		BPFFS:      BPFFS{Path: bpffsDir, Mounted: true, Mode: "0700"},
		Pins:       []Pin{{Name: "default", Mode: "0700", Ours: true, Kept: true}},
		Privileges: Privileges{Missing: []string{}},
		Capture: Capture{Tried: true, Hooks: []Hook{
			{Sees: "bytes sent", Essential: true, Way: "tracepoint", Programs: []string{"sock_send"}, Failures: []Failure{}},
		}},
		Config: Config{Path: "/home/ada/.config/picosnitch/config.json", Exists: true, Changed: []string{"DB retention (days)"}, Problems: []Mistake{}},
		Plugins: []Plugin{
			{Name: "sqlite", Enabled: true, Path: "/usr/libexec/picosnitch/plugins/picosnitch-plugin-sqlite", Found: true, Trusted: true, SHA256: strings.Repeat("5a", 32)},
		},
		Disks:   []Disk{{Of: "state", Path: "/var/lib/picosnitch", Exists: true, Free: 81e9, Total: 250e9}},
		Journal: Journal{Path: "/var/lib/picosnitch/journal.db", Exists: true, Bytes: 2 << 20, Reserve: true},
		Memory:  Memory{RingPages: 256, Maps: 200942016, Total: 16e9},
		Files:   Files{OfDaemon: true, Soft: 65536, Hard: 65536},
		Daemon:  &Daemon{Running: true, PID: 812, Version: "2.0.0", Messages: []string{}, Held: 41},
	}
}

// hurt is one on which much does not.
func hurt() Facts {
	f := well()
	f.Kernel.Release = "5.15.0-91-generic"
	f.Lockdown = Lockdown{Mode: "confidentiality"}
	f.BPFFS = BPFFS{Path: bpffsDir, Mode: "0755"}
	f.Pins = []Pin{{Name: "default", UID: 51000, Mode: "0755"}}
	f.Capture.Hooks = []Hook{
		{Sees: "bytes sent", Essential: true, Programs: []string{}, Failures: []Failure{
			{Way: "tracepoint", Error: "attach tp_btf/sock_send_length: the kernel does not have it", Verifier: []string{}},
			{Way: "fexit", Errno: "EINVAL", Error: "load BPF programs: invalid argument", Verifier: []string{"12: (79) r1 = *(u64 *)(r6 +8)", "invalid access to context"}},
		}},
		{Sees: "peers of IPv4 datagrams that are sent", Programs: []string{}, Failures: []Failure{
			{Way: "cgroup", Errno: "EPERM", Error: "attach cgroup/sendmsg4: operation not permitted", Verifier: []string{}},
		}},
	}
	f.Config.Broken = true
	f.Config.Problems = []Mistake{{
		Severity: "error", File: f.Config.Path, Line: 3, Column: 27, Key: "DB retention (days)", What: "must be from 0 to 36500",
		Text: f.Config.Path + ":3:27: \"DB retention (days)\" must be from 0 to 36500",
	}}
	f.Plugins[0] = Plugin{Name: "sqlite", Enabled: true, Explicit: true, Path: "/opt/x", Found: true, Error: "plugin file refused: /opt/x belongs to uid 1000"}
	f.Disks[0].Free = 30 << 20
	f.Files = Files{Soft: 256, Hard: 4096}
	f.Daemon = &Daemon{Messages: []string{}}
	return f
}

func TestReportsAsPeopleAndProgramsReadThem(t *testing.T) {
	t.Parallel()
	for name, facts := range map[string]Facts{"well": well(), "hurt": hurt()} {
		r := Judge(facts)
		var text bytes.Buffer
		if err := WriteText(&text, r.Findings); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, r.Summary())
		golden(t, name+".txt", text.Bytes())
		object, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", append(object, '\n'))
	}
}

func TestTheDocumentShowsARealReport(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"well.json", "hurt.txt"} {
		example, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(document, example) {
			t.Errorf("docs/doctor.md does not hold testdata/%s as it is now", name)
		}
	}
}

func TestEveryProblemSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, f := range Judge(hurt()).Findings {
		if f.Level != OK && f.Do == "" {
			t.Errorf("%s: %s: nothing to do about it", f.About, f.Says)
		}
		if f.Blocks && f.Level != Problem {
			t.Errorf("%s blocks and is only a %s", f.About, f.Level)
		}
	}
}
