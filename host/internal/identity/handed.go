package identity

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// A file that was handed over and the facts of its execution come on two ways, each in its own time. Whichever is first
// waits a little for the other: a file on a file system that may be unmounted keeps it busy meanwhile.
const (
	holdFile = 700 * time.Millisecond
	// holdOnRoot is for files on the root file system, which nobody is kept from unmounting.
	holdOnRoot = 10 * time.Second
	holdFacts  = 2 * time.Second
	tidyEvery  = 100 * time.Millisecond // while anything waits
	// maxPerPid bounds the files that one process may have waiting: a script, its interpreter and a loader, a few times.
	maxPerPid = 16
)

// handedFile is what a process opened to execute it.
type handedFile struct {
	pid      uint32
	file     *os.File
	stat     capture.FileKey // when it came
	followed bool            // since then
	end      time.Time       // when it is closed unmatched
	gone     bool            // it waits no more
}

// patience is an execution whose file could not be opened in any other way.
type patience struct {
	request openRequest
	status  wire.HashStatus // if none comes
}

// handedFiles are the two waiting rooms, by pid. The caller of its methods holds the Table's mutex.
type handedFiles struct {
	files   map[uint32][]*handedFile
	order   []*handedFile // the one that waits longest first, with some that wait no more
	patient map[uint32][]patience
	count   int
	root    uint64 // device of the root file system, as stat shows it
}

func newHandedFiles() handedFiles {
	h := handedFiles{files: map[uint32][]*handedFile{}, patient: map[uint32][]patience{}}
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err == nil {
		h.root = st.Dev
	}
	return h
}

func (h *handedFiles) length() int { return h.count }

func (h *handedFiles) add(f *handedFile) {
	h.files[f.pid] = append(h.files[f.pid], f)
	h.order = append(h.order, f)
	h.count++
}

// dropOldest closes the file that has waited longest: it is the one least likely to be asked for.
func (h *handedFiles) dropOldest() {
	for len(h.order) > 0 {
		f := h.order[0]
		h.order[0] = nil
		h.order = h.order[1:]
		if !f.gone {
			h.remove(f)
			f.file.Close()
			return
		}
	}
}

// remove takes a file out; it is the caller's then.
func (h *handedFiles) remove(f *handedFile) {
	f.gone = true
	h.count--
	left := slices.DeleteFunc(h.files[f.pid], func(other *handedFile) bool { return other == f })
	if h.files[f.pid] = left; len(left) == 0 {
		delete(h.files, f.pid)
	}
}

// expire closes what has waited long enough and returns who has.
func (h *handedFiles) expire(now time.Time) []patience {
	h.order = slices.DeleteFunc(h.order, func(f *handedFile) bool {
		if !f.gone && !now.Before(f.end) {
			h.remove(f)
			f.file.Close()
		}
		return f.gone
	})
	var over []patience
	for pid, all := range h.patient {
		left := slices.DeleteFunc(all, func(p patience) bool {
			if now.Before(p.request.until) {
				return false
			}
			over = append(over, p)
			return true
		})
		if h.patient[pid] = left; len(left) == 0 {
			delete(h.patient, pid)
		}
	}
	return over
}

func (h *handedFiles) closeAll() {
	for h.count > 0 {
		h.dropOldest()
	}
}

// Executed takes a file that a process opened to execute it. It does not block.
func (t *Table) Executed(pid uint32, file *os.File) {
	fd := int(file.Fd())
	followed := t.follow(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		file.Close()
		return
	}
	stat := keyOfStat(&st)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.has(stat) || t.workers.ctx.Err() != nil {
		file.Close()
		return
	}
	if len(t.handed.files[pid]) >= maxPerPid {
		t.counters.HandedDropped++
		file.Close()
		return
	}
	if t.handed.count >= t.options.MaxFiles {
		t.counters.HandedDropped++
		t.handed.dropOldest()
	}
	hold := holdFile
	if stat.Device == t.handed.root {
		hold = holdOnRoot
	}
	t.handed.add(&handedFile{pid: pid, file: file, stat: stat, followed: followed, end: time.Now().Add(hold)})
	t.workers.untidy()
	t.wake(pid)
}

// has tells whether the content of a file is known, or open to be read. The caller holds the mutex.
func (t *Table) has(stat capture.FileKey) bool {
	for e := range t.inodes[inodeOf{stat.Device, stat.Inode, false}] {
		if e.stat == stat && (e.sha256 != nil || e.file != nil || e.reading) {
			return true
		}
	}
	return false
}

// matchHanded finds the file of an execution among those that its process opened. Those that it leaves may belong to the
// next execution of the same process. One that was touched before it came is not known to be the same.
func (t *Table) matchHanded(r openRequest) opened {
	pid := r.facts.Key.Tgid
	t.mu.Lock()
	files := slices.Clone(t.handed.files[pid])
	t.mu.Unlock()
	var o opened
	for _, f := range files {
		like := t.compare(int(f.file.Fd()), r.file)
		if like == other {
			continue
		}
		known := like == same || f.stat.Ctime == r.file.Ctime && f.stat.Size == r.file.Size
		if followed, ok := t.takeHanded(f, like == changed); ok {
			return opened{
				file: f.file, status: wire.HashStatus_HASH_PENDING, stat: f.stat, same: known, followed: known && followed,
				runner: r.facts,
			}
		}
		o.status = wire.HashStatus_HASH_CHANGED
	}
	return o
}

// takeHanded takes a file that is the one, unless it was touched and may have been written to since it came, or has been
// closed or taken since it was looked up; then what was compared may have been another file under its number.
func (t *Table) takeHanded(f *handedFile, touched bool) (followed, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.gone || touched && !f.followed {
		return false, false
	}
	t.handed.remove(f)
	t.counters.Handed++
	return f.followed, true
}

// dropHanded closes what a process has opened of a file that is open here already: it came too late to be of use.
func (t *Table) dropHanded(pid uint32, stat capture.FileKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range slices.Clone(t.handed.files[pid]) {
		if f.stat == stat {
			t.handed.remove(f)
			f.file.Close()
		}
	}
}

// waitForHanded has an execution wait for its file; false if it is in vain, or if a file has come since it was looked for,
// which is then looked at.
func (t *Table) waitForHanded(r openRequest, status wire.HashStatus) bool {
	if !r.patient || r.facts.Forked || r.facts.Attribution != wire.Attribution_ATTRIBUTION_KERNEL {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	pid := r.facts.Key.Tgid
	if r.until.IsZero() {
		r.until = time.Now().Add(holdFacts)
	}
	if len(t.handed.patient[pid]) >= maxPerPid || time.Now().After(r.until) {
		return false
	}
	if r.retried = !r.retried && len(t.handed.files[pid]) > 0; r.retried {
		return t.workers.open(r)
	}
	t.handed.patient[pid] = append(t.handed.patient[pid], patience{r, status})
	t.workers.untidy()
	return true
}

// wake has those look again who wait for a file of a process. The caller holds the mutex.
func (t *Table) wake(pid uint32) {
	for _, p := range t.handed.patient[pid] {
		if !t.workers.open(p.request) {
			t.openedFileLocked(p.request.exe, opened{status: wire.HashStatus_HASH_TIMEOUT})
		}
	}
	delete(t.handed.patient, pid)
}

// tidy ends what has waited long enough, and tells whether anything still waits.
func (t *Table) tidy(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.handed.expire(now) {
		t.openedFileLocked(p.request.exe, opened{status: p.status})
	}
	return t.handed.count > 0 || len(t.handed.patient) > 0
}
