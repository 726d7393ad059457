package helper

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/picosnitch/picosnitch/host/internal/packages"
)

// HashRequest names an executable. It is read with the rights of UID and GID and nobody else's: those of the process that
// runs it, which for FUSE must be the ones of whoever mounted it.
//
// The first of these that can be opened is read: File, what the process PID runs, Path below the root that PID has (the
// host's if it is gone or PID is 0). None of them is proof that it is the file meant: compare the answer with what the kernel
// reported.
type HashRequest struct {
	// File, if any, is an O_PATH descriptor of the file. Taking one through /proc/PID/exe asks nothing of a FUSE server and
	// is allowed to root; it outlives the process. It stays the caller's.
	File     *os.File
	PID      uint32 // as the host sees it; 0 for none
	Path     string // absolute; "" for none
	UID, GID uint32
	MaxBytes int64 // of a file that is still read
}

// maxPath is PATH_MAX, in bytes.
const maxPath = 4096

func (r HashRequest) check() error {
	switch {
	case r.Path != "" && !plainPath(r.Path):
		return fmt.Errorf("path: not absolute, too long or with a NUL: %w", fs.ErrInvalid)
	case r.File == nil && r.PID == 0 && r.Path == "":
		return fmt.Errorf("neither file, process nor path: %w", fs.ErrInvalid)
	case r.MaxBytes <= 0:
		return fmt.Errorf("limit of %d bytes: %w", r.MaxBytes, fs.ErrInvalid)
	}
	return nil
}

func plainPath(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) <= maxPath && !strings.Contains(path, "\x00")
}

// HashAnswer is what was read, as stat shows it to the user. The same values held before and after reading.
type HashAnswer struct {
	SHA256 []byte `json:"sha256"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Ctime  int64  `json:"ctime"` // UTC ns
	Size   uint64 `json:"size"`  // bytes read
}

// PackagesRequest names a file on the host, in the host's mount namespace and without links in its path.
type PackagesRequest struct {
	Path     string
	MaxBytes int64 // of a file that is still read to compare its checksum; 0: none is read
}

// order is what a helper reads. Paths are bytes: JSON has no others than UTF-8.
type order struct {
	UID        uint32         `json:"uid"`
	GID        uint32         `json:"gid"`
	CPUSeconds uint64         `json:"cpu"`
	MemoryMB   int            `json:"memory"`
	Hash       *hashOrder     `json:"hash,omitempty"`
	Packages   *packagesOrder `json:"packages,omitempty"`
	Symbol     *symbolOrder   `json:"symbol,omitempty"`
	Reverse    *reverseOrder  `json:"reverse,omitempty"`
}

type hashOrder struct {
	File     bool   `json:"file"` // descriptor fileFD is the file
	PID      uint32 `json:"pid"`
	Path     []byte `json:"path"`
	MaxBytes int64  `json:"max"`
}

type packagesOrder struct {
	Path    []byte           `json:"path"`
	Options packages.Options `json:"options"`
}

// fileFD is where a helper finds the file that it is asked about.
const fileFD = 3

// reply is what a helper writes: an answer, or a problem, or for packages both.
type reply struct {
	Hash    *HashAnswer     `json:"hash,omitempty"`
	Owner   *ownerReply     `json:"owner,omitempty"`
	Symbol  *uint64         `json:"symbol,omitempty"`
	Reverse []ReverseAnswer `json:"reverse,omitempty"`
	Problem problem         `json:"problem,omitempty"`
	Error   string          `json:"error,omitempty"` // in words
}

// ownerReply carries the texts of an owner as bytes.
type ownerReply struct {
	Package []byte         `json:"package"`
	Version []byte         `json:"version"`
	Path    []byte         `json:"path"`
	Rest    packages.Owner `json:"rest"`
}

func packOwner(o packages.Owner) *ownerReply {
	r := &ownerReply{Package: []byte(o.Package), Version: []byte(o.Version), Path: []byte(o.Path), Rest: o}
	r.Rest.Package, r.Rest.Version, r.Rest.Path = "", "", ""
	return r
}

func (r *ownerReply) owner() packages.Owner {
	o := r.Rest
	o.Package, o.Version, o.Path = string(r.Package), string(r.Version), string(r.Path)
	return o
}

// problem is a sentinel error on its way through a pipe.
type problem string

const (
	problemGone       problem = "gone"
	problemUnreadable problem = "unreadable"
	problemChanged    problem = "changed"
	problemTooLarge   problem = "too large"
)

// err gives the sentinel. Words that nobody knows are of a failure to read.
func (p problem) err() error {
	switch p {
	case problemGone:
		return ErrGone
	case problemChanged:
		return ErrChanged
	case problemTooLarge:
		return ErrTooLarge
	}
	return ErrUnreadable
}
