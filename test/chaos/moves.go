package chaos

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Run does what the plan says, in so long, and undoes it. What there is no time for is left out.
func (w *World) Run(plan Plan, total time.Duration) {
	w.Helper()
	begun := time.Now()
	for _, m := range plan {
		if time.Since(begun)+m.After > total {
			break
		}
		w.later.until(time.Now().Add(m.After))
		if err := w.do(m); err != nil {
			w.Fatalf("%s: %v", m, err)
		}
	}
	w.later.all()
}

func (w *World) do(m Move) error {
	switch m.Kind {
	case KillHost:
		return w.killHost(m)
	case RestartHost:
		return w.restartHost(m)
	case FillDisk:
		return w.fillDisk(m)
	case ServerAway:
		return w.serverAway(m)
	}
	return w.hurtPlugin(m)
}

// must ends the test if what undoes a move fails.
func (w *World) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// killHost leaves it down for a while. Bytes go on: the probes count them.
func (w *World) killHost(m Move) error {
	if w.Daemon.Pid() == 0 {
		w.Diary.Once(m.Kind, "", "it is down")
		return nil
	}
	deed := w.Diary.Begin(m.Kind, "", "")
	w.Daemon.Kill()
	w.later.in(m.For, func() {
		w.Daemon.Start()
		deed.End("")
	})
	return nil
}

// restartHost ends it as an administrator does. Nothing of ours moves meanwhile but what nobody can see.
func (w *World) restartHost(m Move) error {
	if w.Daemon.Pid() == 0 {
		w.Diary.Once(m.Kind, "", "it is down")
		return nil
	}
	w.Traffic.Pause()
	deed := w.Diary.Begin(m.Kind, "", "")
	if err := w.Daemon.Terminate(); err != nil {
		if !w.full {
			return fmt.Errorf("%w\n%s", err, w.Daemon.LogTail())
		}
		deed.Note = fmt.Sprintf("the disk is full: %v", err)
	}
	deed.Note += fmt.Sprintf("; stopped after %v", time.Since(deed.From).Round(time.Millisecond))
	if err := w.meanwhile(); err != nil {
		return err
	}
	w.later.until(time.Now().Add(m.For))
	w.Daemon.Start()
	deed.End("")
	w.Traffic.Resume()
	return nil
}

// meanwhile has a process move a few bytes while the host is down. Probes that are still there, because the last window
// could not be stored, count them; else no store may know of it, and a gap must tell of the time.
func (w *World) meanwhile() error {
	for _, dir := range w.Daemon.InstanceDirectories() {
		if strings.HasPrefix(dir, "/sys/fs/bpf/") {
			return w.Traffic.Once(true)
		}
	}
	begun := time.Now()
	if err := w.Traffic.Once(false); err != nil {
		return err
	}
	w.blind = append(w.blind, span{begun, time.Now()})
	return nil
}

func (w *World) fillDisk(m Move) error {
	if w.full {
		w.Diary.Once(m.Kind, "", "it is full")
		return nil
	}
	w.full = true
	deed := w.Diary.Begin(m.Kind, "", "")
	w.later.in(m.For, func() {
		w.must(w.Disk.Empty())
		w.full = false
		deed.End("")
	})
	return w.Disk.Fill()
}

func (w *World) serverAway(m Move) error {
	if w.Server == nil || !w.Server.Running() {
		w.Diary.Once(m.Kind, "", "it is away")
		return nil
	}
	deed := w.Diary.Begin(m.Kind, "", "")
	w.later.in(m.For, func() {
		w.Server.Start()
		deed.End("")
	})
	w.Server.Kill()
	return nil
}

// victim is a process that keeps its meaning even when its number has another one.
type victim struct{ pid, handle int }

// hurtPlugin does m to a plugin, if it runs.
func (w *World) hurtPlugin(m Move) error {
	v, state := w.find(m.Plugin)
	if v == nil {
		w.Diary.Once(m.Kind, m.Plugin, state)
		return nil
	}
	deed := w.Diary.Begin(m.Kind, m.Plugin, fmt.Sprintf("process %d, %s", v.pid, state))
	last := func() {
		deed.End(v.fate())
		w.must(unix.Close(v.handle))
	}
	switch m.Kind {
	case StopPlugin:
		w.later.in(m.For, func() { w.must(v.signal(unix.SIGCONT)); last() })
		return v.signal(unix.SIGSTOP)
	case BurstPlugin:
		const stops, stopped, runs = 10, 150 * time.Millisecond, 50 * time.Millisecond
		for i := range stops {
			at := time.Duration(i) * (stopped + runs)
			w.later.in(at, func() { w.must(v.signal(unix.SIGSTOP)) })
			w.later.in(at+stopped, func() { w.must(v.signal(unix.SIGCONT)) })
		}
		w.later.in(stops*(stopped+runs), last)
		return nil
	case StarvePlugin, ChokePlugin:
		restore, err := v.limit(m.Kind)
		w.later.in(m.For, func() { w.must(restore()); last() })
		return err
	}
	deed.End("")
	return errors.Join(v.signal(unix.SIGKILL), unix.Close(v.handle))
}

// find waits a moment for a plugin to have a process, whatever state that is in. Without one it says what the daemon says.
func (w *World) find(plugin string) (v *victim, state string) {
	w.Helper()
	for end := time.Now().Add(3 * time.Second); w.Daemon.Pid() != 0; w.later.until(time.Now().Add(50 * time.Millisecond)) {
		p, err := w.Daemon.Plugin(plugin)
		if err == nil && p.Pid != 0 {
			if handle, err := unix.PidfdOpen(p.Pid, 0); err == nil {
				return &victim{p.Pid, handle}, p.State
			}
		}
		if time.Now().After(end) {
			return nil, fmt.Sprintf("does not run: %s %v", p.State, err)
		}
	}
	return nil, "the host is down"
}

// signal reaches the process or, if it has ended, nobody.
func (v victim) signal(s unix.Signal) error {
	if err := unix.PidfdSendSignal(v.handle, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %v to plugin: %w", s, err)
	}
	return nil
}

// fate says whether it is still there.
func (v victim) fate() string {
	if errors.Is(unix.PidfdSendSignal(v.handle, 0, nil, 0), unix.ESRCH) {
		return "ended"
	}
	return "lived on"
}

// limit takes away what a kind says; restore gives it back to a process that has survived.
func (v victim) limit(kind Kind) (restore func() error, err error) {
	resource, now := unix.RLIMIT_NOFILE, unix.Rlimit{}
	if kind == StarvePlugin {
		const spare = 256 << 10
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
		if err != nil {
			return func() error { return nil }, nil // it has just ended
		}
		resource, now.Cur = unix.RLIMIT_DATA, uint64(kilobytes(status, "VmData"))<<10+spare
	}
	var before unix.Rlimit
	if err := unix.Prlimit(v.pid, resource, nil, &before); err != nil {
		return func() error { return nil }, nil
	}
	now.Max = before.Max
	restore = func() error { return v.change(resource, before) }
	return restore, v.change(resource, now)
}

// change sets a limit of the process or, if it has ended, of nobody.
func (v victim) change(resource int, limit unix.Rlimit) error {
	if v.fate() == "ended" {
		return nil
	}
	if err := unix.Prlimit(v.pid, resource, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("limit plugin: %w", err)
	}
	return nil
}
