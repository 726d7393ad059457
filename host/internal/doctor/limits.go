package doctor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// fewFiles is a limit of open files that programs which start many others run into.
const fewFiles = 1024

// Memory is what the kernel side of the configuration takes.
type Memory struct {
	RingPages int    `json:"ring_pages"` // `Perf ring buffer (pages)`
	Maps      uint64 `json:"maps"`       // bytes of kernel memory when all are full, estimated
	Total     uint64 `json:"total"`      // bytes of the machine
	Error     string `json:"error,omitempty"`
}

func lookMemory(ringPages int) Memory {
	m := Memory{RingPages: ringPages}
	var info unix.Sysinfo_t
	err := unix.Sysinfo(&info)
	if err == nil {
		m.Total = uint64(info.Totalram) * uint64(info.Unit)
		m.Maps, err = capture.MapMemory(ringPages)
	}
	m.Error = saidError(err)
	return m
}

func judgeMemory(f Facts) []Finding {
	m := f.Memory
	says := fmt.Sprintf("the kernel's maps take up to %s of %s, with a ring of %s", bytesText(m.Maps), bytesText(m.Total), number(m.RingPages, "page"))
	switch {
	case m.Error != "":
		return []Finding{warning("memory", "cannot be told: "+m.Error, "see free -m")}
	case m.Maps > m.Total/4:
		return []Finding{warning("memory", says, "make `Perf ring buffer (pages)` smaller")}
	}
	return []Finding{ok("memory", says)}
}

// Files is how many files the daemon may hold open: executables wait open for their hash.
type Files struct {
	OfDaemon bool   `json:"of_daemon"` // else of whoever asked, which a service does not have to share
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
	Wanted   *int   `json:"wanted"` // `Set RLIMIT_NOFILE`
	Error    string `json:"error,omitempty"`
}

func lookFiles(d *Daemon, wanted *int) Files {
	f := Files{Wanted: wanted}
	var limit unix.Rlimit
	if d != nil && d.Running && d.PID > 0 && unix.Prlimit(d.PID, unix.RLIMIT_NOFILE, nil, &limit) == nil {
		f.OfDaemon = true
	} else if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		f.Error = saidError(err)
	}
	f.Soft, f.Hard = limit.Cur, limit.Max
	return f
}

func judgeFiles(f Facts) []Finding {
	l := f.Files
	whose := "started from here, the daemon"
	if l.OfDaemon {
		whose = "the daemon"
	}
	count := l.Soft
	if l.Wanted != nil && !l.OfDaemon { // root may raise its limits
		count = uint64(*l.Wanted)
	}
	says := fmt.Sprintf("%s may have %d files open", whose, count)
	switch {
	case l.Error != "":
		return []Finding{warning("files", "cannot be told: "+l.Error, "see ulimit -n")}
	case count < fewFiles:
		return []Finding{warning("files", says+": programs that end at once may go without a hash", "raise `Set RLIMIT_NOFILE`, or LimitNOFILE= of the service")}
	}
	return []Finding{ok("files", says)}
}
