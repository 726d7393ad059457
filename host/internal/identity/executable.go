package identity

import (
	"os"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// fileID is one content of one file. A file written so close to its execution that its change time does not tell the two
// apart, or one that may be served differently each time, is an executable of that one process alone.
type fileID struct {
	file capture.FileKey
	only capture.Key // zero unless so
}

// executable is a file that was executed. Its descriptor is open from the first execution until it is hashed, which is
// when a flow asks for it or the last process that runs it ends.
type executable struct {
	id    fileID
	path  string // as first seen
	nodes int    // instances kept
	users int    // those of them that run

	file     *os.File
	opening  bool
	wanted   bool // a flow asked for the hash, or nobody runs the file any more
	reading  bool
	racy     bool            // written to too shortly before it was executed
	followed bool            // every write to the open file is told, since it was compared with what was executed
	modified bool            // written to since then
	status   wire.HashStatus // HASH_PENDING until it is settled
	sha256   []byte
	told     bool   // a row went out while the hash was pending
	version  uint64 // counts changes that messages show
	done     chan struct{}

	runner *capture.Process // that the file was opened through, if any
	stat   capture.FileKey  // as stat showed it when it was compared; zero until the file was opened
	same   bool             // as what was executed then

	next, previous *executable // in Table.opened while the file is open, in Table.idle while nobody has it
}

// Resolved is a hash that came after rows had gone out without it.
type Resolved struct {
	File   capture.FileKey
	SHA256 []byte
	Status wire.HashStatus
}

// executableOf finds or makes the executable of a new node, and has its file opened. The caller holds the mutex.
func (t *Table) executableOf(n *node) *executable {
	p := n.facts
	if p.Forked && n.parent != nil && n.parent.exe != nil && n.parent.exe.id.file == p.File && n.parent.exe.useful() {
		return n.parent.exe
	}
	id, racy := t.fileIDOf(n)
	// What could not be hashed then may be now, through this process.
	if e := t.files[id]; e != nil {
		if e.useful() {
			return e
		}
		t.forget(e)
	}
	e := t.newExecutable(id, p)
	e.racy = racy
	t.open(e, p)
	return e
}

// newExecutable makes one that p runs or ran. Its file is not open yet. The caller holds the mutex.
func (t *Table) newExecutable(id fileID, p *capture.Process) *executable {
	e := &executable{id: id, path: string(p.Path.Value), status: wire.HashStatus_HASH_PENDING, done: make(chan struct{})}
	t.files[id] = e
	return e
}

func (e *executable) useful() bool {
	return e.sha256 != nil || e.status == wire.HashStatus_HASH_PENDING
}

// isRacy tells whether the file may have been rewritten since it was executed without its change time showing it.
func (t *Table) isRacy(p *capture.Process) bool {
	if p.Attribution != wire.Attribution_ATTRIBUTION_KERNEL || t.options.Now == nil {
		return false
	}
	now := t.options.Now()
	began := now.UTC - (now.Boot - p.Began)
	return began-p.File.Ctime < int64(racy)
}

// open has a worker open the file. The caller holds the mutex.
func (t *Table) open(e *executable, p *capture.Process) {
	e.opening = true
	request := openRequest{
		exe: e, facts: p, path: e.path, file: e.id.file, host: t.atHome(p), patient: t.systems.host != nil,
	}
	if !t.workers.open(request) {
		e.opening = false
		t.settle(e, wire.HashStatus_HASH_TIMEOUT, nil)
	}
}

// opened is a file that was compared with what was executed, or why there is none.
type opened struct {
	file     *os.File
	status   wire.HashStatus  // HASH_PENDING with a file
	stat     capture.FileKey  // as stat showed it just before it was compared
	same     bool             // as what was executed, not only the same file
	followed bool             // since then
	runner   *capture.Process // that the file was opened through, if any
}

// openedFile takes what a worker opened.
func (t *Table) openedFile(e *executable, o opened) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.openedFileLocked(e, o)
}

func (t *Table) openedFileLocked(e *executable, o opened) {
	e.opening = false
	if o.file == nil {
		t.settle(e, o.status, nil)
		return
	}
	if e.status != wire.HashStatus_HASH_PENDING || e.file != nil || e.reading {
		o.file.Close()
		return
	}
	e.file, e.stat, e.same, e.followed, e.runner = o.file, o.stat, o.same, o.followed, o.runner
	t.index(e)
	t.opened.push(e)
	if e.wanted || e.users == 0 {
		t.read(e)
	}
	for t.opened.length > t.options.MaxFiles {
		t.read(t.opened.first) // it would be lost if its process ended
	}
}

// want asks for the hash of what a node runs. The caller holds the mutex.
func (t *Table) want(n *node) { t.wantFile(n.exe, n.facts) }

// wantFile is want for a file that this process runs or ran. The caller holds the mutex.
func (t *Table) wantFile(e *executable, p *capture.Process) {
	if e.wanted || e.status != wire.HashStatus_HASH_PENDING {
		return
	}
	e.wanted = true
	switch {
	case e.file != nil:
		t.read(e)
	case !e.opening:
		t.open(e, p)
	}
}

// read has a worker hash the file. If too many are waiting to be read, the file is closed; while its process lives, whoever
// wants its hash has it opened again. The caller holds the mutex.
func (t *Table) read(e *executable) {
	file := e.file
	e.file = nil // the worker's now
	t.opened.remove(e)
	if t.workers.hash(hashRequest{exe: e, file: file, key: e.id.file, stat: e.stat, same: e.same, runner: e.runner}) {
		e.reading = true
		t.counters.Hashing++
		return
	}
	file.Close()
	t.counters.FilesClosed++
	if e.wanted || e.users == 0 {
		t.settle(e, wire.HashStatus_HASH_TIMEOUT, nil)
	}
}

// hashed takes the worker's answer to read.
func (t *Table) hashed(e *executable, r reading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters.Hashing--
	e.reading = false
	r = e.judge(r)
	switch {
	case r.status != wire.HashStatus_HASH_OK:
	case e.racy:
		r.status = wire.HashStatus_HASH_RACY
	case e.id.only != (capture.Key{}) && t.systems.trust(e.id.file.Device) == never:
		r.status = wire.HashStatus_HASH_AS_SERVED
	}
	t.settle(e, r.status, r.sum)
}

// settle ends the wait for a hash. The caller holds the mutex.
func (t *Table) settle(e *executable, status wire.HashStatus, sum []byte) {
	if e.status != wire.HashStatus_HASH_PENDING {
		return
	}
	e.status, e.sha256 = status, sum
	e.version++
	close(e.done)
	if sum != nil {
		t.counters.Hashed++
	} else {
		t.counters.NotHashed++
	}
	if status == wire.HashStatus_HASH_AS_SERVED || status == wire.HashStatus_HASH_RACY {
		t.forget(e) // it is no hash for others
	}
	if e.told {
		t.late = append(t.late, Resolved{File: e.id.file, SHA256: sum, Status: status})
	}
	t.retire(e)
}

func (e *executable) closeFile() {
	if e.file != nil {
		e.file.Close()
		e.file = nil
	}
}

// Late gives the hashes that were settled, since it was called last, after a Lineage had shown them as pending.
func (t *Table) Late() []Resolved {
	t.mu.Lock()
	defer t.mu.Unlock()
	late := t.late
	t.late = nil
	return late
}
