package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	typesPath   = "/sys/kernel/btf/vmlinux"
	securityDir = "/sys/kernel/security"
)

// Kernel is what runs the machine.
type Kernel struct {
	Release string `json:"release"`
	Machine string `json:"machine"`
	Error   string `json:"error,omitempty"`
}

func lookKernel() Kernel {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Kernel{Error: saidError(err)}
	}
	return Kernel{Release: said(unix.ByteSliceToString(name.Release[:])), Machine: said(unix.ByteSliceToString(name.Machine[:]))}
}

// atLeast tells whether the release is that version or a later one; false when it cannot be read.
func (k Kernel) atLeast(major, minor int) bool {
	var haveMajor, haveMinor int
	if n, _ := fmt.Sscanf(k.Release, "%d.%d", &haveMajor, &haveMinor); n != 2 {
		return false
	}
	return haveMajor > major || haveMajor == major && haveMinor >= minor
}

func judgeKernel(f Facts) []Finding {
	k := f.Kernel
	says := fmt.Sprintf("Linux %s on %s", k.Release, k.Machine)
	switch {
	case k.Error != "":
		return []Finding{warning("kernel", "cannot be told: "+k.Error, "see what uname -a says")}
	case k.Machine != "x86_64" && k.Machine != "aarch64":
		return []Finding{warning("kernel", says+": not tested on this machine", "go by what is said of each hook")}
	case k.Machine == "aarch64" && !k.atLeast(6, 3): // sock_send_length came with 6.3, fexit on arm64 with 6.4
		return []Finding{warning("kernel", says+": arm64 kernels before 6.3 have no way to tell bytes sent", "boot 6.4 or later")}
	case !k.atLeast(6, 1):
		return []Finding{warning("kernel", says+": older than what is tested, 6.1", "go by what is said of each hook, or boot 6.1 or later")}
	}
	return []Finding{ok("kernel", says)}
}

// Types is the kernel's description of its own types (BTF).
type Types struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Error string `json:"error,omitempty"`
}

func lookTypes(path string) Types {
	info, err := os.Stat(path)
	if err != nil {
		return Types{Path: path, Error: saidError(err)}
	}
	return Types{Path: path, Bytes: info.Size()}
}

func judgeTypes(f Facts) []Finding {
	if f.Types.Error != "" {
		return []Finding{blocking("types", "the kernel does not describe its types (BTF), which the programs are fitted to: "+f.Types.Error,
			"boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of all current distributions are; in a container, have /sys mounted")}
	}
	return []Finding{ok("types", fmt.Sprintf("%s, %s", f.Types.Path, bytesText(uint64(f.Types.Bytes))))}
}

// Lockdown is how far the kernel protects itself from root.
type Lockdown struct {
	Mode  string `json:"mode"` // "none", "integrity", "confidentiality"; "" if it cannot be told
	Error string `json:"error,omitempty"`
}

func lookLockdown(dir string) Lockdown {
	text, err := os.ReadFile(filepath.Join(dir, "lockdown"))
	if err == nil {
		return Lockdown{Mode: said(chosen(string(text)))}
	}
	if entries, lerr := os.ReadDir(dir); lerr == nil && len(entries) == 0 {
		return Lockdown{Error: "securityfs is not mounted at " + dir}
	}
	return Lockdown{Error: saidError(err)}
}

// chosen is the word in brackets of a list such as "none [integrity] confidentiality".
func chosen(list string) string {
	_, after, _ := strings.Cut(list, "[")
	word, _, _ := strings.Cut(after, "]")
	return word
}

func judgeLockdown(f Facts) []Finding {
	switch l := f.Lockdown; {
	case l.Mode == "confidentiality":
		return []Finding{blocking("lockdown", "confidentiality: the kernel lets nobody look into it, not even root",
			"boot with lockdown=integrity, or without the parameter; with Secure Boot, see what your distribution sets")}
	case l.Mode == "":
		return []Finding{ok("lockdown", "cannot be told ("+l.Error+"); the hooks tell whether it matters")}
	default:
		return []Finding{ok("lockdown", l.Mode)}
	}
}
