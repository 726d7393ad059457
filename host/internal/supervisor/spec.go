package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/peers"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

// Spec is one plugin as the configuration wants it.
type Spec struct {
	Name      string            // one word: it becomes a directory name
	Path      string            // absolute
	SHA256    string            // pinned, hexadecimal; "": any
	Disabled  bool              // only shown
	Owner     process.Owner     // of the configuration: files of the plugin are theirs
	AsOwner   bool              // run as Owner, who is not root, instead of a uid of its own
	Network   []string          // nil: none; only "host": all; else each a host:port
	Paths     map[string]string // absolute path -> "ro" or "rw"
	MemoryMB  int               // 0: 256
	DiskMB    int               // that it may keep in Directory and in Paths that it may write; 0: no bound
	Config    []byte            // JSON object; may hold secrets
	Directory string            // the plugin's own, made if missing
	Kinds     []string          // expected; shown until the plugin says itself
	Listen    string            // "127.0.0.1:5100": the plugin gets a socket that listens there; "": none
	OnDemand  bool              // runs only while somebody uses it; a sink always does
	IdleAfter time.Duration     // how long it runs unused; 0: 5 minutes
}

// defaultMemoryMB is the memory of a plugin whose Spec says nothing.
const defaultMemoryMB = 256

func (s Spec) memory() int {
	if s.MemoryMB > 0 {
		return s.MemoryMB
	}
	return defaultMemoryMB
}

func (s Spec) idleAfter() time.Duration {
	if s.IdleAfter > 0 {
		return s.IdleAfter
	}
	return defaultIdleAfter
}

// everywhere says whether the whole network is granted.
func (s Spec) everywhere() bool { return len(s.Network) == 1 && s.Network[0] == "host" }

// same says whether two specs mean the same, so that a plugin of the one need not be started anew for the other.
func (s Spec) same(other Spec) bool {
	return slices.Equal(s.Network, other.Network) && slices.Equal(s.Kinds, other.Kinds) &&
		maps.Equal(s.Paths, other.Paths) && bytes.Equal(s.Config, other.Config) &&
		reflect.DeepEqual(s.plain(), other.plain())
}

// plain is the spec without what may be nil or empty alike.
func (s Spec) plain() Spec {
	s.Network, s.Kinds, s.Paths, s.Config = nil, nil, nil, nil
	return s
}

// check finds what cannot be meant.
func (s Spec) check() error {
	switch {
	case !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`).MatchString(s.Name):
		return errors.New("a name is 1 to 32 lower case letters, digits, - and _")
	case s.AsOwner && s.Owner.UID == 0:
		return errors.New("a plugin never runs as root")
	case !filepath.IsAbs(s.Directory):
		return fmt.Errorf("directory %q is not absolute", s.Directory)
	}
	if err := s.checkNetwork(); err != nil {
		return err
	}
	for path, mode := range s.Paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || mode != "ro" && mode != "rw" {
			return fmt.Errorf(`path %q: %q: want an absolute path and "ro" or "rw"`, path, mode)
		}
		switch top := strings.SplitN(path, "/", 3)[1]; {
		case top == "proc", top == "sys", path == "/", path == "/dev", path == "/run":
			return fmt.Errorf("path %q is never granted: name what lies below it", path)
		}
	}
	return nil
}

// checkNetwork looks at who may be talked to, and at where is listened. A configuration of a user's makes root do no more
// than that user could.
func (s Spec) checkNetwork() error {
	if !s.everywhere() {
		if _, err := peers.ParseAll(s.Network); err != nil {
			return err
		}
	}
	if s.Listen == "" {
		return nil
	}
	address, err := netip.ParseAddrPort(s.Listen)
	switch {
	case err != nil || address.Port() == 0:
		return fmt.Errorf(`listen %.80q: want an address and a port, such as "127.0.0.1:5100"`, s.Listen)
	case s.Owner.UID == 0:
		return nil
	case !address.Addr().IsLoopback():
		return fmt.Errorf("listen %s: only root's configuration may listen beyond this machine", s.Listen)
	case address.Port() < 1024:
		return fmt.Errorf("listen %s: ports below 1024 are root's", s.Listen)
	}
	return nil
}
