package doctor

import (
	"context"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/home"
)

// Options say where an installation lies and whose eyes look at it.
type Options struct {
	Version             string // of this program
	ConfigDir, StateDir string // absolute
	Instance            string
	Owner               home.Owner // of ConfigDir
	UID                 uint32     // of this process
	Missing             []string   // capabilities that a daemon started by this process would lack
	Program             string     // path of this program
	PluginUID           uint32     // who runs plugins

	// FindPlugin gives where a plugin without a path of its own lies; false if it is nowhere.
	FindPlugin func(name string) (path string, found bool)
	// Hooks tries every hook: [capture.Check]. It is not called where privileges are missing.
	Hooks func() ([]capture.Hook, error)
	// Daemon tells how the daemon is; nil leaves the daemon out.
	Daemon func(context.Context) Daemon
}

// Facts are what was found, before anybody judges it. A field named Error tells why the rest of its fact is empty.
type Facts struct {
	Version    string     `json:"version"`
	Kernel     Kernel     `json:"kernel"`
	Types      Types      `json:"types"`
	Lockdown   Lockdown   `json:"lockdown"`
	Cgroup     Cgroup     `json:"cgroup"`
	BPFFS      BPFFS      `json:"bpffs"`
	Pins       []Pin      `json:"pins"`
	Instance   string     `json:"instance"`
	Privileges Privileges `json:"privileges"`
	Capture    Capture    `json:"capture"`
	Config     Config     `json:"config"`
	Plugins    []Plugin   `json:"plugins"`
	Disks      []Disk     `json:"disks"`
	Journal    Journal    `json:"journal"`
	Memory     Memory     `json:"memory"`
	Files      Files      `json:"files"`
	Daemon     *Daemon    `json:"daemon,omitempty"`
}

// Look gathers the facts. It takes about as long as a start, since it loads what a start loads.
func Look(ctx context.Context, o Options) Facts {
	f := Facts{
		Version: o.Version, Instance: o.Instance, Kernel: lookKernel(), Types: lookTypes(typesPath),
		Lockdown: lookLockdown(securityDir), Cgroup: lookCgroup(), BPFFS: lookBPFFS(bpffsDir), Pins: lookPins(bpffsDir),
		Privileges: Privileges{UID: o.UID, Missing: o.Missing},
	}
	f.Capture = lookCapture(f.Privileges, o.Hooks)
	loaded := lookConfig(o)
	f.Config = loaded.fact
	f.Plugins = lookPlugins(o, loaded.choices)
	f.Disks = []Disk{lookDisk("state", o.StateDir), lookDisk("configuration", o.ConfigDir)}
	f.Journal = lookJournal(o.StateDir)
	f.Memory = lookMemory(loaded.ringPages)
	if o.Daemon != nil {
		d := o.Daemon(ctx)
		f.Daemon = &d
	}
	f.Files = lookFiles(f.Daemon, loaded.files)
	return f
}
