package doctor

import "testing"

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Facts)
		want   Verdict
	}{
		"all well":                        {func(*Facts) {}, AllWell},
		"nobody asked for the daemon":     {func(f *Facts) { f.Daemon = nil }, AllWell},
		"no securityfs":                   {func(f *Facts) { f.Lockdown = Lockdown{Error: "not mounted"} }, AllWell},
		"bpffs is yet to be mounted":      {func(f *Facts) { f.BPFFS.Mounted = false }, AllWell},
		"built-in plugin not there":       {func(f *Facts) { f.Plugins = []Plugin{{Name: "geoip", Enabled: true}} }, AllWell},
		"store not there":                 {func(f *Facts) { f.Plugins = []Plugin{{Name: "sqlite", Enabled: true}} }, WithWarnings},
		"old kernel":                      {func(f *Facts) { f.Kernel.Release = "5.15.0" }, WithWarnings},
		"arm64 without tracepoints":       {func(f *Facts) { f.Kernel = Kernel{Release: "6.1.0-56-arm64", Machine: "aarch64"} }, WithWarnings},
		"arm64":                           {func(f *Facts) { f.Kernel = Kernel{Release: "6.12.1", Machine: "aarch64"} }, AllWell},
		"not root":                        {func(f *Facts) { f.Privileges.UID, f.Capture = 51000, Capture{} }, WithWarnings},
		"config of others":                {func(f *Facts) { f.Privileges.UID, f.Config = 51000, Config{Error: "x", Denied: true} }, WithWarnings},
		"daemon down":                     {func(f *Facts) { f.Daemon.Running = false }, WithWarnings},
		"daemon of another version":       {func(f *Facts) { f.Daemon.Version = "1.9" }, WithWarnings},
		"low disk":                        {func(f *Facts) { f.Disks[0].Free = lowSpace - 1 }, WithWarnings},
		"kernel memory":                   {func(f *Facts) { f.Memory.Maps = f.Memory.Total }, WithWarnings},
		"an optional hook missing":        {func(f *Facts) { f.Capture.Hooks[0].Essential, f.Capture.Hooks[0].Way = false, "" }, WithWarnings},
		"daemon degraded":                 {func(f *Facts) { f.Daemon.Degraded = true }, WithProblems},
		"full disk":                       {func(f *Facts) { f.Disks[0].Free = 0 }, WithProblems},
		"read-only disk":                  {func(f *Facts) { f.Disks[0].ReadOnly = true }, WithProblems},
		"plugin named and not there":      {func(f *Facts) { f.Plugins = []Plugin{{Name: "acme", Enabled: true, Explicit: true}} }, WithProblems},
		"unreadable config, as root":      {func(f *Facts) { f.Config = Config{Error: "x", Denied: true} }, WithProblems},
		"no type information":             {func(f *Facts) { f.Types = Types{Error: "no such file"} }, CannotCapture},
		"no types, and not root":          {func(f *Facts) { f.Types, f.Privileges.UID = Types{Error: "no such file"}, 1 }, CannotCapture},
		"no cgroup":                       {func(f *Facts) { f.Cgroup = Cgroup{Error: "not mounted"} }, CannotCapture},
		"lockdown":                        {func(f *Facts) { f.Lockdown.Mode = "confidentiality" }, CannotCapture},
		"no bpffs":                        {func(f *Facts) { f.BPFFS.Error = "no such file" }, CannotCapture},
		"root without capabilities":       {func(f *Facts) { f.Privileges.Missing = []string{"CAP_BPF"} }, CannotCapture},
		"nothing loads":                   {func(f *Facts) { f.Capture = Capture{Tried: true, Error: "x", Errno: "EPERM"} }, CannotCapture},
		"an essential hook missing":       {func(f *Facts) { f.Capture.Hooks[0].Way = "" }, CannotCapture},
		"blocked and degraded, the worse": {func(f *Facts) { f.Cgroup.Error, f.Daemon.Degraded = "x", true }, CannotCapture},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := well()
			c.change(&f)
			if r := Judge(f); r.Verdict != c.want {
				t.Errorf("verdict %q, want %q; problems %v", r.Verdict, c.want, r.Problems())
			}
		})
	}
}

func TestPinsOfADeadDaemonAndOfStrangersAreTold(t *testing.T) {
	t.Parallel()
	f := well()
	f.Daemon.Running = false
	if found := judgePins(f); len(found) != 1 || found[0].Level != Warning {
		t.Errorf("pins of a dead daemon: %v", found)
	}
	f.Pins[0].Kept = false // left by a start that failed
	if found := judgePins(f); len(found) != 1 || found[0].Level != OK {
		t.Errorf("pins of nothing: %v", found)
	}
	f.Pins = []Pin{{Name: "other", UID: 51000, Mode: "0755"}}
	if found := judgePins(f); len(found) != 1 || found[0].Level != Warning {
		t.Errorf("pins of a stranger: %v", found)
	}
}

func TestLockdownIsTheWordInBrackets(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"[none] integrity confidentiality\n": "none", "none integrity [confidentiality]\n": "confidentiality", "": "", "odd": "", "[": "",
	} {
		if got := chosen(list); got != want {
			t.Errorf("%q gives %q, want %q", list, got, want)
		}
	}
}

func TestAJournalWithoutItsReserveIsWarnedOf(t *testing.T) {
	t.Parallel()
	f := well()
	f.Journal.Reserve = false
	if found := judgeJournal(f); len(found) != 1 || found[0].Level != Warning {
		t.Errorf("findings %+v", found)
	}
}
