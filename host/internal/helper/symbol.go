package helper

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
)

// SymbolRequest asks where a function begins in a shared library, which may have been made to harm whoever reads it. It is
// read with the rights that package databases are read with: a library is for everybody.
type SymbolRequest struct {
	File *os.File // O_PATH will do; stays the caller's
	Name string
}

type symbolOrder struct {
	Name string `json:"name"`
}

// Symbol gives the offset of the function in the file, in bytes. It waits as Hash does. A library of a file system that asks
// somebody for its content is not read: whoever follows the function would wait for that one too.
func (p *Pool) Symbol(ctx context.Context, r SymbolRequest) (uint64, error) {
	if r.File == nil || r.Name == "" {
		return 0, fmt.Errorf("find a function: neither file nor name: %w", fs.ErrInvalid)
	}
	o := order{UID: p.options.PackagesUID, GID: p.options.PackagesGID, Symbol: &symbolOrder{Name: r.Name}}
	answer, err := p.ask(ctx, o, r.File)
	if err == nil && answer.Symbol == nil {
		err = fmt.Errorf("%w: %s", answer.Problem.err(), sdk.EscapeString(answer.Error))
	}
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", r.Name, err)
	}
	return *answer.Symbol, nil
}

func (o *symbolOrder) answer() reply {
	offset, err := o.find()
	if err != nil {
		return reply{Problem: problemOf(err), Error: err.Error()}
	}
	return reply{Symbol: &offset}
}

func (o *symbolOrder) find() (uint64, error) {
	if err := local(fileFD); err != nil {
		return 0, err
	}
	fd, err := reopen(unix.Dup(fileFD))
	if err != nil {
		return 0, err
	}
	file := os.NewFile(uintptr(fd), "library")
	defer file.Close()
	library, err := elf.NewFile(file)
	if err != nil {
		return 0, fmt.Errorf("read library: %w", err)
	}
	if library.Class != elf.ELFCLASS64 {
		return 0, fmt.Errorf("%w: %s", ErrUnreadable, library.Class)
	}
	symbols, err := library.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read symbols: %w", err)
	}
	for _, s := range symbols {
		if s.Name == o.Name && s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			return fileOffset(library, s.Value)
		}
	}
	return 0, fmt.Errorf("%w: no %s in it", ErrUnreadable, o.Name)
}

// fileOffset is where an address lies that is loaded to be executed.
func fileOffset(library *elf.File, address uint64) (uint64, error) {
	for _, p := range library.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && address >= p.Vaddr && address-p.Vaddr < p.Filesz {
			return p.Off + address - p.Vaddr, nil
		}
	}
	return 0, fmt.Errorf("%w: address %#x is not code", ErrUnreadable, address)
}

// local refuses files whose content somebody is asked for.
func local(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("look at the file system: %w", err)
	}
	switch uint32(st.Type) {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC:
		return fmt.Errorf("%w: its file system is served by somebody", ErrUnreadable)
	}
	return nil
}
