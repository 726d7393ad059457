package store

import (
	"os"
	"syscall"
)

// place is which files lie at a path and beside it: a file that was deleted or replaced by another program while it is
// open takes rows that nobody will ever see.
type place struct{ file, wal fileID }

// fileID names a file; a zero one is none.
type fileID struct{ device, inode uint64 }

func idOf(path string) fileID {
	info, err := os.Lstat(path)
	if err != nil {
		return fileID{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{st.Dev, st.Ino}
}

func placeOf(path string) place { return place{idOf(path), idOf(path + "-wal")} }

// left says whether the files that were opened are not at their place any more. A -wal file may come later.
func (p *place) left(path string) bool {
	now := placeOf(path)
	if now.file != p.file || p.wal != (fileID{}) && now.wal != p.wal {
		return true
	}
	p.wal = now.wal
	return false
}
