package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/home"
	"github.com/picosnitch/picosnitch/host/internal/supervisor"
)

// Where things are unless flags or the environment say otherwise.
const (
	defaultStateDir = "/var/lib/picosnitch"
	defaultRunDir   = "/run/picosnitch"
	defaultInstance = "default"
	systemPlugins   = "/usr/libexec/picosnitch/plugins"
)

// settings say where one instance of picosnitch lies and whose it is. Paths are absolute and clean.
type settings struct {
	ConfigDir, StateDir, RunDir string

	Instance   string     // names pins in the kernel; different for daemons with different run directories
	Owner      home.Owner // of ConfigDir
	PluginDirs []string   // where plugins are looked for, in order
	UIDs       supervisor.UIDs
	Plugins    []string // the only ones that run, whatever the configuration says; nil: as it says
	Lacks      []string // what capture takes for absent: for tests
}

// settings resolves flags and environment.
func (c *call) settings(ctx context.Context) (settings, error) {
	var s settings
	var err error
	if s.RunDir, err = c.runDir(); err != nil {
		return s, err
	}
	if s.StateDir, err = directory("--state-dir", c.flags.stateDir, c.getenv("PICOSNITCH_STATE"), defaultStateDir); err != nil {
		return s, err
	}
	if s.Instance, err = instanceName(cmp.Or(c.flags.instance, c.getenv("PICOSNITCH_INSTANCE"), defaultInstance), s.RunDir); err != nil {
		return s, err
	}
	s.Lacks = strings.Fields(c.getenv("PICOSNITCH_LACKS"))
	s.UIDs = supervisor.DefaultUIDs()
	if text := c.getenv("PICOSNITCH_UIDS"); text != "" {
		if s.UIDs, err = supervisor.ParseUIDs(text); err != nil {
			return s, misuse("%w", err)
		}
	}
	if s.Plugins, err = parsePlugins(c.flags.plugins); err != nil {
		return s, err
	}
	if s.PluginDirs, err = pluginDirs(); err != nil {
		return s, err
	}
	s.Owner, s.ConfigDir, err = c.configDir(ctx)
	return s, err
}

// configDir finds the directory of config.json, and whose it is.
func (c *call) configDir(ctx context.Context) (home.Owner, string, error) {
	owner, dir, err := home.Find(ctx, home.Request{
		Dir: c.flags.configDir, Getenv: c.getenv, UID: c.uid, Users: home.SystemUsers(),
	})
	if err != nil {
		return owner, "", fmt.Errorf("find the configuration directory: %w", err)
	}
	return owner, dir, nil
}

// runDir is where lock and sockets lie. It can be told without knowing the owner.
func (c *call) runDir() (string, error) {
	return directory("--run-dir", c.flags.runDir, c.getenv("PICOSNITCH_RUN_DIR"), defaultRunDir)
}

func directory(flag string, candidates ...string) (string, error) {
	dir := cmp.Or(candidates...)
	if strings.ContainsAny(dir, "\x00\n") {
		return "", misuse("%s %.80q: no path looks like this", flag, dir)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return absolute, nil
}

// instanceName checks a name. Two daemons with run directories of their own must not share pins in the kernel, so that the
// default name holds for the default run directory only.
func instanceName(name, runDir string) (string, error) {
	if name == defaultInstance && runDir != defaultRunDir {
		return fmt.Sprintf("run-%.6x", sha256.Sum256([]byte(runDir))), nil
	}
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`).MatchString(name) {
		return "", misuse("--instance %.80q: a name is 1 to 64 letters, digits, - and _", name)
	}
	return name, nil
}

// pluginDirs are plugins/ beside this program, then the system's.
func pluginDirs() ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return []string{filepath.Join(filepath.Dir(program), "plugins"), systemPlugins}, nil
}
