package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// Privileges are those of whoever asked the doctor.
type Privileges struct {
	UID     uint32   `json:"uid"`
	Missing []string `json:"missing"` // capabilities that the daemon needs
}

// enough tells whether a daemon could be started from here.
func (p Privileges) enough() bool { return p.UID == 0 && len(p.Missing) == 0 }

func judgePrivileges(f Facts) []Finding {
	switch p := f.Privileges; {
	case p.UID != 0:
		return []Finding{warning("privileges", fmt.Sprintf("uid %d is not root: the hooks were not tried, and not every file could be looked at", p.UID),
			"sudo picosnitch doctor")}
	case len(p.Missing) > 0:
		return []Finding{blocking("privileges", "root has no "+strings.Join(p.Missing, ", ")+" here: a container or service takes them away",
			"let the container or service keep these capabilities, or run picosnitch outside of it")}
	}
	return []Finding{ok("privileges", "root, with every capability that is needed")}
}

// Capture is what came of trying every hook.
type Capture struct {
	Tried bool   `json:"tried"`
	Error string `json:"error,omitempty"` // what kept them from being tried
	Errno string `json:"errno,omitempty"`
	Hooks []Hook `json:"hooks"`

	elsewhere bool // another fact tells of the error
}

// Hook is one thing that the kernel is asked to tell.
type Hook struct {
	Sees      string    `json:"sees"`
	Essential bool      `json:"essential"` // without it nothing can be counted
	Way       string    `json:"way"`       // "" if there is none
	Programs  []string  `json:"programs"`
	Failures  []Failure `json:"failures"` // of the ways that were tried before
}

// Failure is a way that cannot be had.
type Failure struct {
	Way      string   `json:"way"`
	Errno    string   `json:"errno"` // "" if the kernel was not even asked
	Error    string   `json:"error"`
	Verifier []string `json:"verifier"` // its last lines
}

func lookCapture(p Privileges, check func() ([]capture.Hook, error)) Capture {
	c := Capture{Hooks: []Hook{}}
	if !p.enough() {
		return c
	}
	hooks, err := check()
	c.Tried, c.Error = true, saidError(err)
	c.elsewhere = errors.Is(err, capture.ErrNoCgroup) || errors.Is(err, capture.ErrNoTypes)
	var errno unix.Errno
	if errors.As(err, &errno) {
		c.Errno = unix.ErrnoName(errno)
	}
	for _, h := range hooks {
		c.Hooks = append(c.Hooks, describeHook(h))
	}
	return c
}

func describeHook(h capture.Hook) Hook {
	d := Hook{Sees: h.Sees, Essential: h.Essential, Way: h.Way, Programs: append([]string{}, h.Programs...), Failures: []Failure{}}
	for _, f := range h.Failures {
		failure := Failure{Way: f.Way, Errno: f.Errno(), Error: saidError(f.Err), Verifier: []string{}}
		for _, line := range f.Verifier() {
			failure.Verifier = append(failure.Verifier, said(line))
		}
		d.Failures = append(d.Failures, failure)
	}
	return d
}

func judgeCapture(f Facts) []Finding {
	c := f.Capture
	switch {
	case !c.Tried || c.elsewhere:
		return nil
	case c.Error != "":
		return []Finding{blocking("capture", "nothing can be loaded into the kernel: "+c.Error, remedy(c.Errno))}
	}
	var findings []Finding
	for _, h := range c.Hooks {
		findings = append(findings, judgeHook(h))
	}
	return findings
}

func judgeHook(h Hook) Finding {
	if h.Way != "" {
		f := ok("hook", fmt.Sprintf("%s: by %s", h.Sees, h.Way))
		if h.Way == "kprobe" {
			f = warning("hook", f.Says+", of IP sockets only: what AF_PACKET, vsock and other families move is in no sum", newer)
		}
		if len(h.Failures) > 0 {
			f.Detail = details(h.Failures)
		}
		return f
	}
	f := warning("hook", strings.TrimSpace(fmt.Sprintf("not seen: %s. %s", h.Sees, Cost(h.Sees))), remedyOf(h.Failures))
	if h.Essential {
		f = blocking("hook", fmt.Sprintf("not seen: %s, without which nothing can be counted", h.Sees), remedyOf(h.Failures))
	}
	f.Detail = details(h.Failures)
	return f
}

func details(failures []Failure) []string {
	var lines []string
	for _, f := range failures {
		errno := ""
		if f.Errno != "" {
			errno = " [" + f.Errno + "]"
		}
		lines = append(lines, fmt.Sprintf("%s%s: %s", f.Way, errno, f.Error))
		for _, line := range f.Verifier {
			lines = append(lines, "  verifier: "+line)
		}
	}
	return lines
}

const newer = "boot Linux 6.3 or later, which tells of every family; docs/limits.md says what else is less exact until then"

const refused = "the kernel's verifier refuses it: boot another kernel, and report this with the output of sudo picosnitch doctor --json"

// remedyOf goes by the last way that the kernel was asked for: the ones before it ask for more.
func remedyOf(failures []Failure) string {
	for _, f := range slices.Backward(failures) {
		switch {
		case len(f.Verifier) > 0: // whatever the errno, which is EACCES or EINVAL
			return refused
		case f.Errno != "":
			return remedy(f.Errno)
		}
	}
	return remedy("")
}

// remedy is what can be done about the kernel's answer.
func remedy(errno string) string {
	switch errno {
	case "EPERM", "EACCES":
		return "look for what forbids it: lockdown=confidentiality, SELinux or AppArmor (journalctl -k -g bpf), a container's seccomp filter"
	case "ENOMEM", "EAGAIN":
		return "free memory, or make `Perf ring buffer (pages)` smaller, and try again"
	case "E2BIG", "EINVAL", "ENOSPC":
		return refused
	case "", "ENOTSUPP", "EOPNOTSUPP", "ENOENT", "ESRCH", "ENOSYS":
		return "this kernel does not have it: boot a newer one, or one with CONFIG_DEBUG_INFO_BTF, CONFIG_CGROUP_BPF and CONFIG_FUNCTION_TRACER"
	}
	return "report this with the output of sudo picosnitch doctor --json"
}

// Cost says in plain words what it means that something is not seen; "" if nobody wrote it down.
func Cost(sees string) string {
	for _, c := range []struct{ begins, means string }{
		{"peers of datagrams", "Their bytes are counted, in rows without a remote address."},
		{"peers of IPv", "Their bytes are counted, in rows without a remote address, unless the socket is connected."},
		{"peers of raw", "Their bytes are counted, in rows without a remote address."},
		{"bytes that leave", "What programs move in this way is missing from the sums; what they read in the usual way is not."},
		{"AF_XDP", "What they move is in no sum, and nobody is told that they are there."},
		{"TUN devices", "What is written to them is in no sum, and nobody is told who does."},
		{"io_uring's", "What it moves is in no sum, and nobody is told that it is used."},
		{"packets of tunnels", "Tunnels make no rows of their own; what is sent through them is counted where programs send it. " +
			"Of macvtap devices nobody is told."},
		{"owners of SCTP", "Bytes over SCTP are counted; connects and accepts over it make no row."},
		{"names that", "Addresses are named by what is seen on the wire alone."},
		{"connects that", "A connect makes a row only once it is answered, refused or given up."},
		{"connects", "Connections that carry no byte make no row, and nobody learns of programs that only listen or fail to connect."},
	} {
		if !strings.HasPrefix(sees, c.begins) {
			continue
		}
		if strings.Contains(sees, ", and ") { // it tells names besides
			return c.means + " Fewer addresses have a name."
		}
		return c.means
	}
	return ""
}
