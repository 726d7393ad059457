package launch

// Verb is the hidden first argument that makes the host binary call [Main].
const Verb = "__launch"

// Hold is an argument of Verb: wait until standard input ends. The host makes user namespaces with it.
const Hold = "hold"

// Descriptors that the launcher inherits, besides standard input, output and error.
const (
	SpecFD     = 3 // Spec as JSON, until end of file
	FileFD     = 4 // the plugin
	ReportFD   = 5 // the launcher writes Reports as JSON; closed by execveat
	ListenerFD = 6 // a listening socket, with Spec.Listener; the plugin gets it as PluginListenerFD
	MountFD    = 7 // the first of Sandbox.Mounts, the others follow
)

// PluginListenerFD is the descriptor of its listener in the plugin, which is told the number by [sdk.ListenerVariable].
const PluginListenerFD = 3

// Spec says what to become. It never holds a secret.
type Spec struct {
	Args     []string // first the name
	Env      []string
	Script   bool     // the file is a script: its interpreter inherits FileFD
	Listener bool     // the plugin gets ListenerFD
	MemoryMB int      // RLIMIT_DATA is 64 MiB more; 0: no limit, or a control group's
	Sandbox  *Sandbox // nil: a plain child with the caller's own credentials
}

// Sandbox is the small world of a plugin.
type Sandbox struct {
	UID, GID  uint32
	Root      string   // an existing directory, to mount the new root on
	Mounts    []Mount  // MountFD and its followers
	Network   bool     // has the host's network
	Ports     []uint16 // with Network: only to peers at these TCP ports, whose names are in a hosts file among the mounts
	Processes int      // RLIMIT_NPROC; 0: no limit, or a control group's
}

// Mount is a detached mount that is handed over.
type Mount struct {
	Path     string // where it belongs in the new root
	ReadOnly bool
}

// Report is what the launcher did, or why it gave up.
type Report struct {
	Enforced []string `json:"enforced,omitempty"` // in words
	Missing  []string `json:"missing,omitempty"`  // what could not be enforced here, in words
	Error    string   `json:"error,omitempty"`
	Refused  bool     `json:"refused,omitempty"` // Error is the plugin file's: trying again would not help
}
