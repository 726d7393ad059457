package identity

import (
	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// index makes an executable findable by what stat shows of its file, and lets go of what is known of the file as it was
// before. The caller holds the mutex.
func (t *Table) index(e *executable) {
	at := e.inode()
	all := t.inodes[at]
	if all == nil {
		all = map[*executable]bool{}
		t.inodes[at] = all
	}
	if !at.alone {
		t.forgetIdle(all)
	}
	all[e] = true
	t.inodes[at] = all // forget may have emptied and removed it
}

// forgetIdle forgets what nobody runs any more.
func (t *Table) forgetIdle(all map[*executable]bool) {
	for e := range all {
		if e.nodes == 0 && !e.reading && e.file == nil {
			t.forget(e)
		}
	}
}

// forget keeps an executable from being found for later executions. Who has it keeps it. The caller holds the mutex.
func (t *Table) forget(e *executable) {
	if t.files[e.id] == e {
		delete(t.files, e.id)
	}
	at := e.inode()
	if all := t.inodes[at]; all[e] {
		delete(all, e)
		if len(all) == 0 {
			delete(t.inodes, at)
		}
	}
	if e.file == nil {
		t.idle.remove(e)
	}
}

// uncache keeps the hash of an executable from being given to later executions, but not from being told what happens to its
// file while it is read. The caller holds the mutex.
func (t *Table) uncache(e *executable) {
	if e.file == nil && !e.reading {
		t.forget(e)
	} else if t.files[e.id] == e {
		delete(t.files, e.id)
	}
}

// forgetIf forgets all executables of which that is true. The caller holds the mutex.
func (t *Table) forgetIf(gone func(*executable) bool) {
	for _, e := range t.files {
		if gone(e) {
			t.counters.Unmounted++
			t.forget(e)
		}
	}
}

// unused is called when the last process that runs a file has ended: the file is read and closed, so that it keeps no file
// system busy, and no deleted file's blocks. The caller holds the mutex.
func (t *Table) unused(e *executable) {
	if e.file != nil {
		e.wanted = true
		t.read(e)
	}
	if t.systems.trust(e.id.file.Device) == whileRun {
		t.uncache(e)
	}
}

// retire decides what stays of an executable of which no instance is kept: a hash that may count for the next execution.
// The caller holds the mutex.
func (t *Table) retire(e *executable) {
	if e.nodes > 0 || e.opening || e.reading || e.file != nil {
		return
	}
	if t.files[e.id] != e {
		t.forget(e)
		return
	}
	if e.sha256 == nil || e.id.only != (capture.Key{}) {
		t.forget(e)
		return
	}
	t.idle.push(e)
	for t.idle.length > t.options.MaxExecutables {
		t.counters.ExecutablesEvicted++
		t.forget(t.idle.first)
	}
}

// revive takes an executable that is used again from those that may be evicted. The caller holds the mutex.
func (t *Table) revive(e *executable) {
	if e.nodes == 0 && e.file == nil {
		t.idle.remove(e)
	}
}

// fileQueue is a list of executables, oldest first. An executable is in one list at most.
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

// remove takes e out if it is in the list.
func (q *fileQueue) remove(e *executable) {
	if e.previous == nil && q.first != e {
		return
	}
	if e.previous != nil {
		e.previous.next = e.next
	} else {
		q.first = e.next
	}
	if e.next != nil {
		e.next.previous = e.previous
	} else {
		q.last = e.previous
	}
	e.next, e.previous = nil, nil
	q.length--
}
