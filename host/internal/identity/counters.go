package identity

// Counters tell what a Table holds and what it could not do. All but the first six only grow.
type Counters struct {
	Processes   uint64
	Executables uint64 // whose hash is known or being found
	OpenFiles   uint64
	HandedFiles uint64 // handed over by the kernel, and not yet matched to an execution
	Hashing     uint64
	Text        uint64 // bytes of paths and command lines

	Hashed             uint64
	NotHashed          uint64 // with a reason
	Handed             uint64 // hashes that owe their file to the kernel's handing it over
	Refused            uint64 // instances not kept because the table was full; their flows say what is known of them
	RefusedShare       uint64 // likewise, because their user has an eighth of it
	TextsCut           uint64 // instances whose path and command line were cut for want of room
	FilesClosed        uint64 // descriptors closed unread because there were too many
	HandedDropped      uint64 // files handed over and closed unmatched, because there were too many
	ExecutablesEvicted uint64 // hashes forgotten because there were too many
	Modified           uint64 // hashes forgotten because the file was written to, or may have been
	Unmounted          uint64 // hashes forgotten because the file system went
	Overflows          uint64 // of the queue that tells of writes
	ViewsEvicted       uint64 // answers forgotten to whether the host sees a file at a path
	ClaimsSkipped      uint64 // processes not examined because too many were waiting
	Forged             uint64 // processes whose link to their program showed another one
}

// Counters gives a snapshot.
func (t *Table) Counters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counters
	c.Processes, c.Executables = uint64(len(t.nodes)), uint64(len(t.files))
	c.OpenFiles, c.HandedFiles, c.Text = uint64(t.opened.length), uint64(t.handed.length()), uint64(t.text)
	return c
}
