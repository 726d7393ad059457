package identity

import (
	"context"
	"os"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// fileID is one content of one file. A file written so close to its execution that its change time does not tell the two
// apart is an executable of that one process alone.
type fileID struct {
	file capture.FileKey
	only capture.Key // zero unless racy
}

// executable is a file that was executed. Its descriptor is open from the first execution until it is hashed or nobody
// can ask for its hash any more.
type executable struct {
	id     fileID
	path   string // as first seen
	nodes  int    // instances kept
	users  int    // those of them that run
	unused int64  // boot ns since when there are none

	file    *os.File
	opening bool
	wanted  bool // a flow asked for the hash
	reading bool
	status  wire.HashStatus // HASH_PENDING until it is settled
	sha256  []byte
	told    bool   // a row went out while the hash was pending
	version uint64 // counts changes that messages show
	done    chan struct{}

	next, previous *executable // in Table.opened
}

// Resolved is a hash that came after rows had gone out without it.
type Resolved struct {
	File   capture.FileKey
	SHA256 []byte
	Status wire.HashStatus
}

// executable finds or makes the executable of a new node, and has its file opened.
func (t *Table) executable(n *node) *executable {
	p := n.facts
	id := fileID{file: p.File}
	if t.isRacy(p) {
		id.only = p.Key
		if p.Forked && n.parent != nil && n.parent.exe != nil && n.parent.exe.id.file == p.File {
			id.only = n.parent.exe.id.only
		}
	}
	// What could not be hashed then may be now, through this process.
	if e := t.files[id]; e != nil && (e.sha256 != nil || e.status == wire.HashStatus_HASH_PENDING) {
		return e
	}
	e := &executable{id: id, path: string(p.Path.Value), status: wire.HashStatus_HASH_PENDING, done: make(chan struct{})}
	t.files[id] = e
	t.open(e, p)
	return e
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
	request := openRequest{exe: e, pid: p.Key.Tgid, path: e.path, file: e.id.file}
	if !t.workers.open(request) {
		e.opening = false
		t.settle(e, wire.HashStatus_HASH_TIMEOUT, nil)
	}
}

// openedFile takes the worker's answer to open.
func (t *Table) openedFile(e *executable, file *os.File, status wire.HashStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.opening = false
	if file == nil {
		t.settle(e, status, nil)
		return
	}
	e.file = file
	t.opened.push(e)
	for t.opened.length > t.options.MaxFiles {
		t.counters.FilesClosed++
		t.closeFile(t.opened.first) // whoever wants its hash opens it again
	}
	if e.wanted {
		t.read(e)
	}
}

// want asks for the hash of what a node runs. The caller holds the mutex.
func (t *Table) want(n *node) {
	e := n.exe
	if e.wanted || e.status != wire.HashStatus_HASH_PENDING {
		return
	}
	e.wanted = true
	switch {
	case e.file != nil:
		t.read(e)
	case !e.opening:
		t.open(e, n.facts)
	}
}

// read has a worker hash the file.
func (t *Table) read(e *executable) {
	if e.reading {
		return
	}
	e.reading = true
	file := e.file
	e.file = nil // the worker's now
	t.opened.remove(e)
	t.counters.Hashing++
	t.workers.hash(hashRequest{exe: e, file: file, key: e.id.file})
}

// hashed takes the worker's answer to read.
func (t *Table) hashed(e *executable, sum []byte, status wire.HashStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counters.Hashing--
	e.reading = false
	if status == wire.HashStatus_HASH_OK && e.id.only != (capture.Key{}) {
		status = wire.HashStatus_HASH_RACY
	}
	t.settle(e, status, sum)
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
	if e.told {
		t.late = append(t.late, Resolved{File: e.id.file, SHA256: sum, Status: status})
	}
}

func (e *executable) closeFile() {
	if e.file != nil {
		e.file.Close()
		e.file = nil
	}
}

func (t *Table) closeFile(e *executable) {
	if e.file != nil {
		t.opened.remove(e)
		e.closeFile()
	}
}

// closeUnused closes the files of programs that ended unasked for: an open descriptor keeps a file system busy and a
// deleted file's blocks taken. Those of which a child lives on are hashed first: it may yet use the network.
func (t *Table) closeUnused(boot int64) {
	for id, e := range t.files {
		if e.users > 0 || e.opening || e.reading || e.unused >= boot {
			continue
		}
		if e.nodes > 0 && e.file != nil {
			e.wanted = true
			t.read(e)
			continue
		}
		t.closeFile(e)
		if e.nodes == 0 && (e.sha256 == nil || id.only != (capture.Key{}) || len(t.files) > t.options.MaxProcesses) {
			delete(t.files, id)
		}
	}
}

// Await asks for the hashes of what these processes, their parents and grandparents run, and waits for them, until ctx
// ends. Rows of what is still missing then are to go out as pending; Late tells the rest.
func (t *Table) Await(ctx context.Context, processes []capture.Key) {
	for _, done := range t.wantAll(processes) {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

func (t *Table) wantAll(processes []capture.Key) []<-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := map[*executable]bool{}
	for _, key := range processes {
		n := t.nodes[key]
		for range 3 {
			if n == nil {
				break
			}
			if n.exe != nil && n.exe.status == wire.HashStatus_HASH_PENDING {
				t.want(n)
				waiting[n.exe] = true
			}
			n = n.parent
		}
	}
	var done []<-chan struct{}
	for e := range waiting {
		done = append(done, e.done)
	}
	return done
}

// Late gives the hashes that were settled, since it was called last, after a Lineage had shown them as pending.
func (t *Table) Late() []Resolved {
	t.mu.Lock()
	defer t.mu.Unlock()
	late := t.late
	t.late = nil
	return late
}

// fileQueue is a list of executables, oldest first.
type fileQueue struct {
	first, last *executable
	length      int
}

func (q *fileQueue) push(e *executable) {
	e.previous, e.next = q.last, nil
	if q.last != nil {
		q.last.next = e
	} else {
		q.first = e
	}
	q.last = e
	q.length++
}

func (q *fileQueue) remove(e *executable) {
	if e.previous != nil {
		e.previous.next = e.next
	} else if q.first == e {
		q.first = e.next
	} else {
		return
	}
	if e.next != nil {
		e.next.previous = e.previous
	} else {
		q.last = e.previous
	}
	e.next, e.previous = nil, nil
	q.length--
}

// deadline of one hash.
func (t *Table) deadline() time.Time { return time.Now().Add(t.options.HashTimeout) }
