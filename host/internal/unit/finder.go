package unit

import (
	"sync"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	defaultEntries = 4096
	// A runtime may write its state after the first process of a container runs: who had no name is looked up again.
	nameless = 2 * time.Second
)

// Options sets a [Finder] up. Zero values mean the defaults named.
type Options struct {
	Root     string // directory below which var/lib and run are looked up; "/"
	ProcRoot string // "/proc"
	// CgroupRoot is where the cgroup v2 hierarchy is mounted. It is asked who owns the cgroups above a name. With "" only
	// names that systemd's system manager, Docker and the kubelet make are trusted.
	CgroupRoot string
	// HostMountNS is the mount namespace of the host: a process in it is in no sandbox. 0 means that sandboxes are not
	// looked into.
	HostMountNS uint32
	// V1 is asked where the v2 path says nothing: on machines where container runtimes use the older hierarchies. It
	// gives the directory in which the hierarchy is mounted and the path in it; "" if there is none. See [V1].
	V1         func(Facts) (mount, path string)
	MaxEntries int              // verified answers remembered; 4,096
	Now        func() time.Time // time.Now
}

func (o *Options) fill() {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.ProcRoot == "" {
		o.ProcRoot = "/proc"
	}
	if o.MaxEntries <= 0 {
		o.MaxEntries = defaultEntries
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Facts are what else is known of the process. Zero values mean unknown, except for UID.
type Facts struct {
	Pid     uint32 // in the host's namespace
	Start   int64  // of the process, boot ns
	UID     uint32 // real
	Exe     string // path of the executable, in the process's own mount namespace
	MountNS uint32
}

// Finder finds units.
type Finder struct {
	options Options
	owner   uint32 // of state that is believed: root

	mu    sync.Mutex
	cache map[string]entry // by mount and path, up to the name that decides; holds verified answers alone
}

type entry struct {
	unit  *wire.Unit
	until time.Time // zero: for good
}

// New makes a Finder. It holds no descriptors and needs no Close.
func New(o Options) *Finder {
	o.fill()
	return &Finder{options: o, cache: map[string]entry{}}
}

// Find tells which unit, container or app a process is in, nil if nothing says so. The path is that of its cgroup below
// the v2 hierarchy's root, "" if it is not known. All texts in the answer are escaped ([sdk.Escape]) and bounded. The
// answer is shared and read-only; a container that is renamed keeps its old name here until the cache is full. Find may
// read files of the local disk, so it is not to be called with a busy lock held.
func (f *Finder) Find(cgroupPath string, facts Facts) *wire.Unit {
	mount, path, source := f.options.CgroupRoot, cgroupPath, "cgroup"
	if trimmed(path) == "" && f.options.V1 != nil {
		mount, path = f.options.V1(facts)
		source = "cgroup1"
	}
	p := parse(path)
	if u := f.verified(mount, p, source); u != nil {
		return u
	}
	by := f.claimant(mount, p, facts)
	if p.found.runtime != "" {
		return claimed(by, p.found, source)
	}
	if app, origin := f.app(facts); app.runtime != "" {
		return claimed(by, app, origin)
	}
	if p.unit.runtime != "" {
		return claimed(by, p.unit, source)
	}
	return nil
}

// verified gives the answer that only root could have brought about, nil if there is none.
func (f *Finder) verified(mount string, p place, source string) *wire.Unit {
	if p.user {
		return nil
	}
	for _, m := range append(p.other, p.found, p.unit) {
		if m.runtime == "" {
			continue
		}
		if u := f.verify(mount, m, source); u != nil {
			return u
		}
	}
	return nil
}

func (f *Finder) verify(mount string, m mark, source string) *wire.Unit {
	if u := f.remembered(mount, m); u != nil {
		return u
	}
	if !f.trusted(mount, m) {
		return nil
	}
	u, keep := f.make(m, source)
	if u != nil {
		f.remember(mount, m, u, keep)
	}
	return u
}

// make forms the verified answer, with the name that the runtime's state gives. keep is false if that could still change.
func (f *Finder) make(m mark, source string) (u *wire.Unit, keep bool) {
	keep = !m.container
	if m.container {
		s := f.state(m)
		if m.weak && s.origin == "" {
			return nil, false
		}
		keep = s.name != ""
		m, source = s.complete(m, source)
	}
	return &wire.Unit{Id: escaped(m.id), Name: escaped(m.label()), Runtime: m.runtime, Source: source, Verified: true}, keep
}

// claimed forms an answer that is only what a user says.
func claimed(by string, m mark, source string) *wire.Unit {
	u := &wire.Unit{Id: by + escaped(m.id), Runtime: m.runtime, Source: source}
	if label := m.label(); label != "" {
		u.Name = by + escaped(label)
	}
	return u
}

func (f *Finder) remembered(mount string, m mark) *wire.Unit {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, known := f.cache[key(mount, m)]
	if !known || !e.until.IsZero() && f.options.Now().After(e.until) {
		return nil
	}
	return e.unit
}

func (f *Finder) remember(mount string, m mark, u *wire.Unit, keep bool) {
	e := entry{unit: u}
	if !keep {
		e.until = f.options.Now().Add(nameless)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cache) >= f.options.MaxEntries {
		clear(f.cache)
	}
	f.cache[key(mount, m)] = e
}

func key(mount string, m mark) string { return mount + "\x00" + m.path }
