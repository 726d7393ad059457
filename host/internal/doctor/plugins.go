package doctor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/executable"
	"github.com/picosnitch/picosnitch/sdk"
)

// Plugin is a plugin that the configuration speaks of.
type Plugin struct {
	Name     string `json:"name"`
	Enabled  bool   `json:"enabled"`
	Explicit bool   `json:"explicit"` // "Plugins" names it
	Path     string `json:"path"`     // where it is, or should be
	Found    bool   `json:"found"`
	Trusted  bool   `json:"trusted"`
	SHA256   string `json:"sha256"` // of a trusted file
	Error    string `json:"error,omitempty"`
	Denied   bool   `json:"denied,omitempty"` // only root can tell
}

// historyPlugin is the store that the verbs ask.
const historyPlugin = "sqlite"

func lookPlugins(o Options, choices []config.PluginChoice) []Plugin {
	plugins := make([]Plugin, 0, len(choices))
	for _, c := range choices {
		plugins = append(plugins, lookPlugin(o, c))
	}
	return plugins
}

// lookPlugin verifies the file as a start would. A plugin that is switched off is not looked at.
func lookPlugin(o Options, c config.PluginChoice) Plugin {
	path, found := c.Path, true
	if path == "" {
		path, found = o.FindPlugin(c.Name)
	}
	p := Plugin{Name: sdk.EscapeString(c.Name), Enabled: c.Enabled, Explicit: c.Explicit, Path: sdk.EscapeString(path), Found: found}
	if !c.Enabled || !found {
		return p
	}
	rules := executable.Rules{Host: o.Program, SHA256: c.SHA256, RunAs: o.PluginUID}
	if c.User != "" {
		rules.RunAs, rules.Trust = o.Owner.UID, []uint32{o.Owner.UID}
	}
	file, err := executable.Open(path, rules)
	if err != nil {
		p.Found, p.Error = !errors.Is(err, fs.ErrNotExist), saidError(err)
		p.Denied = errors.Is(err, fs.ErrPermission) && o.UID != 0
		return p
	}
	p.Trusted, p.SHA256 = true, hex.EncodeToString(file.SHA256[:])
	_ = file.Close() // only read
	return p
}

func judgePlugins(f Facts) []Finding {
	var findings []Finding
	for _, p := range f.Plugins {
		findings = append(findings, judgePlugin(p))
	}
	return findings
}

func judgePlugin(p Plugin) Finding {
	const about = "plugin"
	switch {
	case !p.Enabled:
		return ok(about, p.Name+" is switched off")
	case p.Trusted:
		return ok(about, fmt.Sprintf("%s: %s", p.Name, p.Path))
	case p.Denied:
		return warning(about, fmt.Sprintf("%s cannot be looked at without root: %s", p.Name, p.Error), "sudo picosnitch doctor")
	case !p.Found && !p.Explicit && p.Name == historyPlugin:
		return warning(about, p.Name+" is not installed: no history is kept that query could ask", "install it beside the others: "+p.Path)
	case !p.Found && !p.Explicit:
		return ok(about, p.Name+" is not installed, and nothing else needs it")
	case !p.Found:
		return problem(about, fmt.Sprintf("%s is not there: %s", p.Name, p.Path),
			fmt.Sprintf("install it, or set \"path\" of \"Plugins\" %q, or \"enabled\": false", p.Name))
	}
	return problem(about, fmt.Sprintf("%s is not started: %s", p.Name, p.Error),
		"a plugin must belong to root, and so must its directories, writable by nobody else (chown root, chmod 755); a pinned sha256 must be the file's")
}
