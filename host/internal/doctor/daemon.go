package doctor

import "fmt"

// Daemon is how the daemon of the run directory does. Its strings are printable.
type Daemon struct {
	Running  bool     `json:"running"`
	PID      int      `json:"pid"` // 0 when it cannot be seen
	Version  string   `json:"version"`
	Degraded bool     `json:"degraded"`
	Messages []string `json:"messages"`   // what is wrong
	Held     uint64   `json:"held_files"` // executables held open
	Error    string   `json:"error,omitempty"`
}

func judgeDaemon(f Facts) []Finding {
	if f.Daemon == nil {
		return nil
	}
	switch d := *f.Daemon; {
	case d.Error != "":
		return []Finding{warning("daemon", "cannot be told: "+d.Error, "sudo picosnitch doctor")}
	case !d.Running:
		return []Finding{warning("daemon", "does not run: nothing is watched", "sudo picosnitch start")}
	case d.Degraded:
		f := problem("daemon", fmt.Sprintf("runs with pid %d, but not everything works", d.PID), "see picosnitch plugins, and error.log beside config.json")
		f.Detail = d.Messages
		return []Finding{f}
	case d.Version != f.Version:
		return []Finding{warning("daemon", fmt.Sprintf("runs with pid %d as version %s, while this is %s", d.PID, d.Version, f.Version), "sudo picosnitch restart")}
	default:
		return []Finding{ok("daemon", fmt.Sprintf("runs with pid %d and holds %s open", d.PID, number(int(d.Held), "executable")))}
	}
}
