package identity

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// syncTime is how long a worker waits to be told of what happened before.
const syncTime = 5 * time.Second

// follow has writes to a file told from now on, and says whether they will be.
func (t *Table) follow(fd int) bool {
	return t.options.Follower != nil && t.options.Follower.Watch(fd) == nil
}

// Modified tells that a file, as stat names it, was written to: its hash no longer counts for later executions, and what is
// read of it now not for the one it was opened for.
func (t *Table) Modified(device, inode uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, alone := range []bool{false, true} {
		for e := range t.inodes[inodeOf{device, inode, alone}] {
			t.counters.Modified++
			e.modified = true
			t.uncache(e)
		}
	}
	t.handed.modified(device, inode)
}

// Overflow tells that any file may have been written to without Modified.
func (t *Table) Overflow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters.Overflows++
	for _, all := range t.inodes {
		for e := range all {
			t.counters.Modified++
			e.followed = false
			t.uncache(e)
		}
	}
	t.handed.overflow()
}

// reading is what came of reading a file.
type reading struct {
	sum     []byte
	status  wire.HashStatus
	touched bool // the file's time is no longer that of the execution; the rest agrees
	guarded bool // and that was while somebody ran it
}

// judge decides about a file that was touched. To delete, rename or link a file changes its time as writing does: if every
// write would have been told and none was, it is what was executed. While a process runs it nobody can write to it either,
// unless the process let them; that is good enough for a hash that is marked, also of a program that deletes itself and is
// gone before anybody looks. The caller holds the mutex.
func (e *executable) judge(r reading) reading {
	switch {
	case r.sum == nil:
		return r
	case e.modified || r.touched && !e.followed && !r.guarded:
		return reading{status: wire.HashStatus_HASH_CHANGED}
	case r.touched && !e.followed:
		r.status = wire.HashStatus_HASH_RACY
	}
	return r
}

// afterRead tells whether a file that was read is still what was executed.
func (t *Table) afterRead(r hashRequest, sum []byte) reading {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.file.Fd()), &st); err != nil || uint64(st.Size) != r.key.Size {
		return reading{status: wire.HashStatus_HASH_CHANGED}
	}
	read := reading{sum: sum, status: wire.HashStatus_HASH_OK}
	if served(int(r.file.Fd())) {
		read.status = wire.HashStatus_HASH_AS_SERVED
	}
	if r.same && keyOfStat(&st) == r.stat {
		return read
	}
	if t.options.Follower != nil {
		ctx, cancel := context.WithTimeout(context.Background(), syncTime)
		defer cancel()
		if t.options.Follower.Sync(ctx) != nil {
			return reading{status: wire.HashStatus_HASH_CHANGED}
		}
	}
	read.touched = true
	read.guarded = st.Mtim.Nano() <= r.key.Ctime && r.runner != nil && t.ranUntil(r.runner, st.Ctim.Nano())
	return read
}

// ranUntil tells whether a process ran what it executed until some time (UTC, ns), or longer.
func (t *Table) ranUntil(p *capture.Process, utc int64) bool {
	if t.runs(p) {
		return true
	}
	if t.options.Ended == nil || t.options.Now == nil {
		return false
	}
	now, ended := t.options.Now(), t.options.Ended(p.Key)
	return ended != 0 && utc <= now.UTC-(now.Boot-ended)
}

// runs tells whether a process still runs what it executed.
func (t *Table) runs(p *capture.Process) bool {
	proc := fmt.Sprintf("%s/%d", t.options.ProcRoot, p.Key.Tgid)
	fd, err := unix.Open(proc+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return t.compare(fd, p.File) != other && startedAt(proc, p.Key.Start)
}

// modified and overflow take from waiting files that writes to them are told: one was, or some may not have been.
func (h *handedFiles) modified(device, inode uint64) {
	for _, files := range h.files {
		for i := range files {
			if files[i].stat.Device == device && files[i].stat.Inode == inode {
				files[i].followed = false
			}
		}
	}
}

func (h *handedFiles) overflow() {
	for _, files := range h.files {
		for i := range files {
			files[i].followed = false
		}
	}
}
