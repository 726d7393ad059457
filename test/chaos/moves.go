package chaos

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// run does what the plan says, in so long, and undoes it. What there is no time for is left out.
func (w *world) run(plan plan, total time.Duration) {
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

func (w *world) do(m move) error {
	switch m.Kind {
	case killHost:
		return w.killHost(m)
	case restartHost:
		return w.restartHost(m)
	case fillDisk:
		return w.fillDisk(m)
	case serverAway:
		return w.serverAway(m)
	}
	return w.hurtPlugin(m)
}

// must ends the test if what undoes a move fails.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// killHost leaves it down for a while. Bytes go on: the probes count them.
func (w *world) killHost(m move) error {
	if w.Daemon.Pid() == 0 {
		w.Diary.once(m.Kind, "", "it is down")
		return nil
	}
	deed := w.Diary.begin(m.Kind, "", "")
	w.Daemon.Kill()
	w.later.in(m.For, func() {
		w.Daemon.Start()
		deed.end("")
	})
	return nil
}

// restartHost ends it as an administrator does. Nothing of ours moves meanwhile but what nobody can see.
func (w *world) restartHost(m move) error {
	if w.Daemon.Pid() == 0 {
		w.Diary.once(m.Kind, "", "it is down")
		return nil
	}
	w.Traffic.pause()
	deed := w.Diary.begin(m.Kind, "", "")
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
	deed.end("")
	w.Traffic.resume()
	return nil
}

// meanwhile has a process move a few bytes while the host is down. Probes that are still there, because the last window
// could not be stored, count them; else no store may know of it, and a gap must tell of the time.
func (w *world) meanwhile() error {
	for _, dir := range w.Daemon.InstanceDirectories() {
		if strings.HasPrefix(dir, "/sys/fs/bpf/") {
			return w.Traffic.once(true)
		}
	}
	begun := time.Now()
	if err := w.Traffic.once(false); err != nil {
		return err
	}
	w.blind = append(w.blind, span{begun, time.Now()})
	return nil
}

func (w *world) fillDisk(m move) error {
	if w.full {
		w.Diary.once(m.Kind, "", "it is full")
		return nil
	}
	w.full = true
	deed := w.Diary.begin(m.Kind, "", "")
	w.later.in(m.For, func() {
		w.must(w.Disk.empty())
		w.full = false
		deed.end("")
	})
	return w.Disk.fill()
}

func (w *world) serverAway(m move) error {
	if !w.Server.Running() {
		w.Diary.once(m.Kind, "", "it is away")
		return nil
	}
	deed := w.Diary.begin(m.Kind, "", "")
	w.later.in(m.For, func() {
		w.Server.Start()
		deed.end("")
	})
	w.Server.Kill()
	return nil
}

// victim is a process that keeps its meaning even when its number has another one.
type victim struct{ pid, handle int }

// hurtPlugin does m to a plugin, if it runs.
func (w *world) hurtPlugin(m move) error {
	v, state := w.find(m.Plugin)
	if v == nil {
		w.Diary.once(m.Kind, m.Plugin, state)
		return nil
	}
	deed := w.Diary.begin(m.Kind, m.Plugin, fmt.Sprintf("process %d, %s", v.pid, state))
	last := func() {
		deed.end(v.fate())
		w.must(unix.Close(v.handle))
	}
	switch m.Kind {
	case stopPlugin:
		w.later.in(m.For, func() { w.must(v.signal(unix.SIGCONT)); last() })
		return v.signal(unix.SIGSTOP)
	case burstPlugin:
		const stops, stopped, runs = 10, 150 * time.Millisecond, 50 * time.Millisecond
		for i := range stops {
			at := time.Duration(i) * (stopped + runs)
			w.later.in(at, func() { w.must(v.signal(unix.SIGSTOP)) })
			w.later.in(at+stopped, func() { w.must(v.signal(unix.SIGCONT)) })
		}
		w.later.in(stops*(stopped+runs), last)
		return nil
	case starvePlugin, chokePlugin:
		restore, err := v.limit(m.Kind)
		w.later.in(m.For, func() { w.must(restore()); last() })
		return err
	}
	deed.end("")
	return errors.Join(v.signal(unix.SIGKILL), unix.Close(v.handle))
}

// find waits a moment for a plugin to have a process, whatever state that is in. Without one it says what the daemon says.
func (w *world) find(plugin string) (v *victim, state string) {
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
func (v victim) limit(kind kind) (restore func() error, err error) {
	resource, now := unix.RLIMIT_NOFILE, unix.Rlimit{}
	if kind == starvePlugin {
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
