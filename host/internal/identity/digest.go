package identity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// readSize is what a worker reads at a time: large enough for the disk, small enough for the processor's cache.
const readSize = 256 << 10

// errTimeout tells that a file took too long to read.
var errTimeout = errors.New("took too long")

// hashFile reads a whole file and makes sure that it was, before and after, what the kernel executed.
func (t *Table) hashFile(r hashRequest, buffer []byte) reading {
	if r.key.Size > uint64(t.options.MaxHash) {
		return reading{status: wire.HashStatus_HASH_TOO_LARGE}
	}
	sum, err := digest(r.file, buffer, time.Now().Add(t.options.HashTimeout))
	switch {
	case errors.Is(err, errTimeout):
		return reading{status: wire.HashStatus_HASH_TIMEOUT}
	case err != nil:
		return reading{status: wire.HashStatus_HASH_UNREADABLE}
	}
	return t.afterRead(r, sum)
}

func digest(file io.ReaderAt, buffer []byte, deadline time.Time) ([]byte, error) {
	h := sha256.New()
	for offset := int64(0); ; {
		n, err := file.ReadAt(buffer, offset)
		h.Write(buffer[:n])
		offset += int64(n)
		if errors.Is(err, io.EOF) {
			return h.Sum(nil), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read executable: %w", err)
		}
		if time.Now().After(deadline) {
			return nil, errTimeout
		}
	}
}

// served tells whether the file system may give other bytes to other readers (FUSE, network).
func served(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	switch st.Type {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.CODA_SUPER_MAGIC:
		return true
	}
	return false
}
